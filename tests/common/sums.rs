//! The sum of squares as the header promises it, written plainly.

/// Blocks of so many elements in 128 lanes; lanes are joined by halves, blocks in pairs again and
/// again.
pub fn sum_squares(values: &[f64], block: usize) -> f64 {
    let sums = values.chunks(block).map(|block| {
        let mut lanes = [0.0; 128];
        block.iter().enumerate().for_each(|(i, value)| lanes[i % 128] += value * value);
        let mut half = 64;
        while half > 0 {
            (0..half).for_each(|lane| lanes[lane] += lanes[lane + half]);
            half /= 2;
        }
        lanes[0]
    });
    let mut level: Vec<f64> = sums.collect();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| pair.iter().copied().reduce(|a, b| a + b).unwrap())
            .collect();
    }
    level.first().copied().unwrap_or(0.0)
}
