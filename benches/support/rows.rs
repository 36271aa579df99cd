//! Rows of an embedding table: a sparse step, and the loop with the same traffic.

use super::*;

pub const HEIGHT: usize = 1 << 20;
pub const ROW: usize = 64;
pub const LISTED: usize = 4096;
/// So many lists that their rows do not stay in cache from one use to the next.
const LISTS: usize = 32;

/// A table of f32, lists of random rows, and values for the rows of one list.
pub struct Table {
    streams: Streams<f32>,
    values: Elements<f32>,
    /// The first half for the step, in random order; the second for the loop, rising.
    lists: Vec<Vec<i64>>,
    next: usize,
}

impl Table {
    pub fn new() -> Table {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as i64 % HEIGHT as i64
        };
        let mut lists: Vec<Vec<i64>> =
            (0..LISTS).map(|_| (0..LISTED).map(|_| random()).collect()).collect();
        lists[LISTS / 2..].iter_mut().for_each(|list| list.sort_unstable());
        Table {
            streams: Streams::new(HEIGHT * ROW),
            values: Elements::new(LISTED * ROW, 0.01),
            lists,
            next: 0,
        }
    }

    /// An optimizer of the table whose gradients are lists of rows.
    pub fn optimizer(&mut self, threads: u32) -> Optimizer {
        let mut optimizer = Optimizer::new(&adamw_config {
            num_threads: threads,
            lazy_mode: ADAMW_LAZY_ROWS,
            ..Optimizer::defaults()
        });
        self.streams.add_to(&mut optimizer, HEIGHT * ROW);
        optimizer
    }

    fn next_list(&mut self) -> usize {
        self.next = (self.next + 1) % (LISTS / 2);
        self.next
    }

    /// Sets another list of rows and steps.
    pub fn step(&mut self, optimizer: &mut Optimizer) {
        let list = self.next_list();
        let (mut n, mut elements) = (LISTED as i64, (LISTED * ROW) as i64);
        let rows = adamw_tensor {
            dtype: adamw_data_type { code: 0, bits: 64, lanes: 1 },
            ..tensor(self.lists[list].as_mut_ptr(), 0, &mut n)
        };
        let values = tensor(self.values.slice().as_mut_ptr(), 2, &mut elements);
        optimizer.set_sparse_grad(&rows, &values);
        optimizer.step();
    }

    /// Reads and writes the rows of another list, in rising order.
    pub fn traffic(&mut self) {
        let list = LISTS / 2 + self.next_list();
        for (place, &row) in self.lists[list].iter().enumerate() {
            let row = row as usize * ROW..(row as usize + 1) * ROW;
            traffic(
                &mut self.streams.param.slice()[row.clone()],
                &self.values.slice()[place * ROW..(place + 1) * ROW],
                (&mut [], &mut []),
                &mut self.streams.exp_avg.slice()[row.clone()],
                &mut self.streams.exp_avg_sq.slice()[row],
            );
        }
    }
}
