//! Parameters of several groups, cut into ranges that lie side by side.

use crate::common::array::Dtype;
use crate::common::handle::{Handle, config};
use crate::world::{Model, Part, flat, shard_ranges};
use adamw::ffi::*;

const LENGTHS: [usize; 6] = [10_000, 300, 0, 5000, 7, 20_480];

fn handle() -> Handle {
    let handle = Handle::new(&adamw_config { seed: 9, ..config() });
    handle.add_group(|group| (group.lr_scale, group.weight_decay) = (0.5, 0.0));
    handle.add_group(|group| (group.moments, group.beta2) = (ADAMW_MOMENTS_8BIT, 0.95));
    handle.add_group(|group| (group.moments, group.eps) = (ADAMW_MOMENTS_4BIT, 1e-6));
    handle
}

#[test]
fn parameters_of_one_flat_shard_keep_their_groups_and_have_the_bits_of_the_whole() {
    let bits = |dtype, n_ranks, align| -> Vec<u64> {
        let model = Model { dtype, lengths: &LENGTHS };
        let part = |rank| {
            let ranges = shard_ranges(&LENGTHS, align, rank, n_ranks);
            Part::new(handle(), model, ranges, |i, param| {
                (param.group, param.no_clip) = ([0, 1, 2, 3, 0, 2][i as usize], i == 1);
            })
        };
        let parts: Vec<_> = (0..n_ranks).map(part).collect();
        for step in 2..5 {
            for part in &parts {
                let grads = flat(dtype, &model.values(step), &part.ranges);
                part.set_grads(&grads);
                part.handle.step();
            }
        }
        parts.iter().flat_map(|part| (0..part.flat.len()).map(|i| part.flat.bits(i))).collect()
    };
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let whole = bits(dtype, 1, 0);
        for (n_ranks, align) in [(2, 0), (3, 256), (4, 256), (4, 0), (64, 256), (3, u64::MAX)] {
            assert!(bits(dtype, n_ranks, align) == whole, "{dtype:?}, {n_ranks} at {align}");
        }
    }
}
