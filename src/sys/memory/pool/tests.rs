//! Pieces are their own, and zero; what comes and goes takes no more memory than what is there.

use super::*;
use core::ptr::with_exposed_provenance_mut;

/// The bytes of a piece, which may not be there any more.
fn bytes_of<'a>(memory: &Memory) -> &'a mut [u8] {
    let start = with_exposed_provenance_mut::<u8>(memory.address());
    // SAFETY: the tests look at memory only while they have it.
    unsafe { core::slice::from_raw_parts_mut(start, memory.bytes & !PIECE) }
}

/// Returns a pool whose next small piece comes from a chunk.
fn pool() -> Pool {
    Pool { allocated: ALLOCATED, shared: None }
}

fn piece(pool: &mut Pool, bytes: usize) -> Memory {
    pool.memory(0, bytes, "a test").unwrap()
}

fn n_chunks(pool: &Pool) -> usize {
    // SAFETY: the pool is a user.
    pool.shared.map_or(0, |shared| lock(unsafe { shared.as_ref() }).len())
}

fn is_mapped(address: usize) -> bool {
    let page = core::ptr::without_provenance_mut(address / 4096 * 4096);
    // SAFETY: a call that looks for a mapping.
    unsafe { libc::msync(page, 4096, libc::MS_ASYNC) == 0 }
}

#[test]
fn small_state_lies_end_to_end_once_there_is_much_of_it() {
    let mut pool = Pool::default();
    let few: Vec<_> = (0..ALLOCATED / 256).map(|_| piece(&mut pool, 256)).collect();
    assert_eq!(n_chunks(&pool), 0);
    let more: Vec<_> = (0..100).map(|i| piece(&mut pool, 250 + i % 7)).collect();
    assert_eq!(n_chunks(&pool), 1);
    for (i, memory) in more.iter().enumerate() {
        assert_eq!(memory.address(), more[0].address() + i * 256);
    }
    assert!(!more.iter().any(|memory| few.iter().any(|of| of.address() == memory.address())));
    for bytes in [0, SMALL, HUGE_PAGE] {
        assert_eq!(piece(&mut pool, bytes).bytes, bytes, "of no chunk");
    }
}

#[test]
fn little_state_lies_on_ordinary_pages() {
    let (mut pool, mut pieces) = (pool(), Vec::new());
    while n_chunks(&pool) < 2 {
        pieces.push(piece(&mut pool, 256));
    }
    assert!(pieces.len() * 256 <= ORDINARY * ALIGN, "{} pieces", pieces.len());
    while n_chunks(&pool) < 3 {
        pieces.push(piece(&mut pool, 256));
    }
    assert!(pieces.len() * 256 > HUGE_PAGE, "{} pieces", pieces.len());
}

#[test]
fn a_chunk_begins_half_a_page_away_from_the_parameter() {
    for address in [0, 64, 2048, 4032, 1 << 30 | 320] {
        let piece = pool().memory(address, 256, "a test").unwrap();
        assert_eq!((piece.address() + ALIASES / 2) % ALIASES, address % ALIASES);
    }
}

#[test]
fn a_piece_is_zero_and_its_own_and_starts_on_a_cache_line() {
    let (mut pool, mut pieces) = (pool(), Vec::new());
    let (mut random, mut most_chunks) = (1u64, 0);
    for round in 0..60_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // Three in four are new in one phase, and go in the next.
        let grows = (random >> 33) % 4 < if round / 10_000 % 2 == 0 { 3 } else { 1 };
        if grows || pieces.is_empty() {
            let memory = piece(&mut pool, 1 + (random >> 40) as usize % (SMALL - 1));
            assert!(memory.address().is_multiple_of(ALIGN));
            assert!(bytes_of(&memory).iter().all(|byte| *byte == 0));
            bytes_of(&memory).fill(random as u8 | 1);
            pieces.push((memory, random as u8 | 1));
        } else {
            let (memory, filled) = pieces.swap_remove((random >> 40) as usize % pieces.len());
            assert!(bytes_of(&memory).iter().all(|byte| *byte == filled));
        }
        most_chunks = most_chunks.max(n_chunks(&pool));
    }
    assert!((4..=12).contains(&most_chunks), "{most_chunks} chunks of 2 MiB for 10 MiB");
    pieces.clear();
    assert_eq!(n_chunks(&pool), 1, "those that are not in use go back to the system");
}

#[test]
fn pieces_that_come_and_go_around_some_that_stay_take_no_more_chunks() {
    let mut pool = pool();
    let mut stay = Vec::new();
    for round in 0..100 {
        let mut go: Vec<_> = (0..20_000).map(|_| piece(&mut pool, 300)).collect();
        stay.push(go.swap_remove(round * 199));
        assert!(n_chunks(&pool) <= 5, "{} chunks in round {round}", n_chunks(&pool));
    }
}

#[test]
fn few_pieces_that_stay_among_gaps_too_short_for_others_hold_few_chunks() {
    let mut pool = pool();
    let mut stay = Vec::new();
    for round in 0..60 {
        let mut short: Vec<_> = (0..LINES - 1000).map(|_| Some(piece(&mut pool, ALIGN))).collect();
        // One in five stays while longer ones find no place there, and one of all to the end.
        (0..short.len()).filter(|i| i % 5 > 0).for_each(|i| short[i] = None);
        drop((0..80).map(|_| piece(&mut pool, 25 * ALIGN)).collect::<Vec<_>>());
        stay.push(short.swap_remove(0));
        drop(short);
        assert!(n_chunks(&pool) <= 5, "{} chunks in round {round}", n_chunks(&pool));
    }
}

#[test]
fn pieces_outlive_their_pool_and_the_last_gives_the_memory_back() {
    let mut pool = pool();
    let mut pieces: Vec<_> = (0..2000).map(|_| piece(&mut pool, 4000)).collect();
    drop(pool);
    let last = pieces.pop().unwrap(); // in the chunk in use, which stays to the end
    drop(pieces);
    bytes_of(&last).fill(1);
    let address = last.address();
    assert!(is_mapped(address));
    drop(last);
    assert!(!is_mapped(address));
}

#[test]
fn pieces_go_back_in_other_threads_while_more_are_taken() {
    let mut pool = pool();
    std::thread::scope(|scope| {
        for i in 0..20 {
            let pieces: Vec<_> = (0..3000).map(|_| piece(&mut pool, 700)).collect();
            pieces.iter().for_each(|memory| bytes_of(memory).fill(i));
            scope.spawn(move || {
                assert!(pieces.iter().all(|memory| bytes_of(memory) == [i; 700]));
            });
        }
        drop(pool);
    });
}
