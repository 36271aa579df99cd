//! Handles cost what they are while they live, and next to nothing after: memory goes back, and a new one is
//! made in the same time however many there are.

use crate::common::cpu_time::seconds;
use crate::common::handle::{Handle, config};
use crate::{alone, resident_bytes};

#[test]
fn handles_that_were_destroyed_give_their_memory_back_and_full_tables_are_quick() {
    let _alone = alone();
    const COUNT: usize = 64 * ((1 << 9) - 1);
    let config = config();
    drop(Handle::new(&config));
    let before = resident_bytes();
    let mut handles: Vec<Handle> = (0..COUNT).map(|_| Handle::new(&config)).collect();

    // The table is full, so that there is one place in it, each time one before that of the last.
    let mut times: Vec<f64> = (0..51)
        .map(|round| {
            seconds(|| {
                drop(handles.swap_remove(COUNT - 1 - round * 600));
                handles.push(Handle::new(&config));
            })
        })
        .collect();
    times.sort_unstable_by(f64::total_cmp);
    assert!(times[25] < 20e-6, "{} s for one of {COUNT}", times[25]);

    drop(handles);
    let kept = resident_bytes().saturating_sub(before);
    assert!(kept < 64 * COUNT, "{kept} bytes are kept for {COUNT} handles that were destroyed");
}

#[test]
fn handles_that_threads_make_and_destroy_at_once_are_all_different() {
    let _alone = alone();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let config = config();
                for round in 0..2000 {
                    let handles: Vec<Handle> =
                        (0..round % 7).map(|_| Handle::new(&config)).collect();
                    for (i, handle) in handles.iter().enumerate() {
                        handle.set_lr(i as f64 + round as f64);
                    }
                    for (i, handle) in handles.iter().enumerate() {
                        assert_eq!(handle.lr(), i as f64 + round as f64);
                    }
                }
            });
        }
    });
}
