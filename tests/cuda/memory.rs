//! Where a handle's memory on the device comes from: the host's allocator, the device's pool, or the driver.

use crate::common::array::{Array, Dtype};
use crate::common::device::{self, Device, OnDevice, Stream, take_log};
use crate::common::handle::{Answer, Handle, Param, config};
use crate::common::host::{from_user_data, user_data};
use crate::common::random::Random;
use crate::common::rows::{Rows, RowsOnDevice};
use crate::common::twin::Twin;
use adamw::ffi::*;
use core::ffi::c_void;
use core::ptr::{null_mut, with_exposed_provenance_mut};
use cudarc::driver::result;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

const ARENA: usize = 16 << 20;

/// An allocator as PyTorch has one: it hands out pieces of one allocation, and keeps those that come back
/// for the next of their size. It writes over each piece that it gives and gets, on a stream of its own
/// that waits for nobody.
struct Arena {
    whole: OnDevice,
    own: Stream,
    pieces: RefCell<Pieces>,
    /// Which call of `alloc` from now fails, if any.
    fails_in: Cell<usize>,
    /// What the library has done wrong.
    wrong: RefCell<Vec<String>>,
}

#[derive(Default)]
struct Pieces {
    end: usize,
    free: Vec<(u64, usize)>,
    used: BTreeMap<u64, usize>,
    n_given: usize,
}

fn rounded(bytes: usize) -> usize {
    bytes.next_multiple_of(512)
}

impl Arena {
    fn new() -> Arena {
        Arena {
            whole: OnDevice::of(&Array::zeros(Dtype::U8, ARENA), 0),
            own: Stream::new(),
            pieces: RefCell::default(),
            fails_in: Cell::new(0),
            wrong: RefCell::default(),
        }
    }

    fn config(&self) -> adamw_config {
        adamw_config {
            device_alloc: Some(alloc),
            device_free: Some(free),
            device_memory_data: user_data(self),
            ..config()
        }
    }

    fn expect(&self, is_right: bool, what: &str) {
        if !is_right {
            self.wrong.borrow_mut().push(what.to_owned());
        }
    }

    fn write_over(&self, address: u64, bytes: usize) {
        // SAFETY: a piece of the arena.
        unsafe { result::memset_d8_async(address, 0xff, rounded(bytes), self.own.raw()).unwrap() };
        self.own.wait();
    }

    fn take(&self, bytes: usize) -> u64 {
        let mut pieces = self.pieces.borrow_mut();
        pieces.n_given += 1;
        let kept = pieces.free.iter().position(|piece| piece.1 == rounded(bytes));
        let address = match kept {
            Some(place) => pieces.free.swap_remove(place).0,
            None => {
                let address = self.whole.address() + pieces.end as u64;
                pieces.end += rounded(bytes);
                assert!(pieces.end <= ARENA);
                address
            }
        };
        pieces.used.insert(address, bytes);
        address
    }

    /// How many pieces are in use; nothing may have gone wrong.
    fn n_used(&self) -> usize {
        assert_eq!(*self.wrong.borrow(), [""; 0]);
        self.pieces.borrow().used.len()
    }

    fn n_given(&self) -> usize {
        self.pieces.borrow().n_given
    }
}

unsafe extern "C" fn alloc(
    num_bytes: usize,
    device: i32,
    _: *mut c_void,
    out_address: *mut *mut c_void,
    user_data: *mut c_void,
) -> i32 {
    // SAFETY: `Arena::config` set it, and the arena is dropped after the handle.
    let arena = unsafe { from_user_data::<Arena>(user_data) };
    arena.expect(num_bytes > 0 && device == 0, "alloc of no bytes, or elsewhere");
    arena.expect(!Device::current().is_null(), "alloc without a context");
    match arena.fails_in.get() {
        0 => {}
        1 => {
            arena.fails_in.set(0);
            return -7;
        }
        n => arena.fails_in.set(n - 1),
    }
    let address = arena.take(num_bytes);
    arena.write_over(address, num_bytes);
    // SAFETY: the library's place for it.
    unsafe { *out_address = with_exposed_provenance_mut(address as usize) };
    0
}

unsafe extern "C" fn free(
    address: *mut c_void,
    num_bytes: usize,
    device: i32,
    _: *mut c_void,
    user_data: *mut c_void,
) -> i32 {
    // SAFETY: as above.
    let arena = unsafe { from_user_data::<Arena>(user_data) };
    arena.expect(device == 0 && !Device::current().is_null(), "free elsewhere");
    let address = address.expose_provenance() as u64;
    let taken = arena.pieces.borrow_mut().used.remove(&address);
    arena.expect(taken == Some(num_bytes), "free of what alloc has not given");
    arena.write_over(address, num_bytes);
    arena.pieces.borrow_mut().free.push((address, rounded(num_bytes)));
    -1 // which nobody minds
}

/// How memory may come, by the configuration of it.
fn sources(arena: &Arena) -> [adamw_config; 3] {
    let pool = adamw_config { device_memory: ADAMW_DEVICE_MEMORY_POOL, ..config() };
    [config(), pool, arena.config()]
}

/// What takes every kind of memory there is.
fn all_kinds(config: adamw_config) -> adamw_config {
    let (clip, clip_norm) = (ADAMW_CLIP_GLOBAL_NORM, 0.3);
    adamw_config { multi_precision: 1, lazy_mode: ADAMW_LAZY_EXACT, clip, clip_norm, ..config }
}

#[test]
fn memory_from_anywhere_gives_the_same_bits() {
    for settings in [&[][..], &[("lazy", "1"), ("shuffle", "4")]] {
        let _device = Device::with(settings);
        let arena = Arena::new();
        for config in sources(&arena) {
            let mut twin = Twin::new(&all_kinds(config));
            for n in [5_000, 70] {
                twin.add(Dtype::F32, n);
                twin.add(Dtype::Bf16, n);
            }
            let step = |twin: &mut Twin| {
                twin.step();
                twin.assert_same();
            };
            twin.set_grads();
            step(&mut twin);
            let grad = Array::ordinary(Dtype::F32, 70, &mut twin.random);
            twin.accumulate(2, &grad);
            step(&mut twin);
            for rows in [&[3, 1][..], &[0, 2, 2, 4, 6, 5, 3]] {
                let values = Array::ordinary(Dtype::F32, 10 * rows.len(), &mut twin.random);
                twin.set_sparse_grad(2, Rows::i64(rows), values);
                step(&mut twin);
            }
            // As many as it takes for the tables and the step counts to move.
            for _ in 0..9 {
                twin.add(Dtype::F32, 90);
            }
            twin.set_new_grads();
            twin.step();
            twin.both(|handle| handle.remove(0).unwrap());
            twin.step();
            twin.assert_same_at_the_end();
        }
        assert_eq!(arena.n_used(), 0);
        assert!(arena.n_given() > 20);
    }
}

#[test]
fn the_drivers_allocator_is_not_called_where_another_is_asked_for() {
    let _device = Device::new();
    let arena = Arena::new();
    let before = device::count("allocations");
    for (config, allocates) in
        sources(&arena).into_iter().zip([Some("cuMemAlloc_v2"), Some("cuMemAllocAsync"), None])
    {
        let given = Given::new();
        let there = device::count("allocations");
        take_log();
        let handle = Handle::new(&all_kinds(config));
        live(&handle, &given, |call| call().unwrap());
        drop(handle);
        assert_eq!(device::count("allocations"), there);
        let log = take_log();
        let calls: Vec<&str> = log.iter().map(|line| line.split('(').next().unwrap()).collect();
        for entry in ["cuMemAlloc_v2", "cuMemAllocAsync"] {
            assert_eq!(calls.contains(&entry), allocates == Some(entry), "{entry}");
        }
        // What a stream has yet to come to is waited for before it is used anywhere.
        let mut after = calls.iter().skip_while(|entry| **entry != "cuMemAllocAsync").skip(1);
        while let Some(entry) = after.next() {
            assert_eq!(*entry, "cuThreadExchangeStreamCaptureMode");
            assert_eq!(after.next(), Some(&"cuStreamSynchronize"));
            after.by_ref().find(|entry| **entry == "cuMemAllocAsync");
        }
    }
    assert_eq!((device::count("allocations"), arena.n_used()), (before, 0));
}

const N: usize = 60;

/// What a host has in the device's memory.
struct Given {
    param: OnDevice,
    grad: OnDevice,
    sparse: [(RowsOnDevice, OnDevice); 2],
}

impl Given {
    fn new() -> Given {
        let random = &mut Random::new(9);
        let mut ordinary = |n| OnDevice::of(&Array::ordinary(Dtype::Bf16, n, random), 0);
        let mut sparse =
            |rows: &[usize]| (RowsOnDevice::of(&Rows::i64(rows)), ordinary(10 * rows.len()));
        let sparse = [sparse(&[3, 1, 3]), sparse(&[2; 5])];
        Given { param: ordinary(N), grad: ordinary(N), sparse }
    }
}

fn try_add(handle: &Handle, name: &str, param: &OnDevice) -> Answer<u32> {
    let mut tensors = [None; 9];
    tensors[0] = Some(param.tensor());
    handle.try_add_tensors(&Param::new(name, &Array::zeros(Dtype::Bf16, N)), tensors)
}

/// All that takes memory, each call by `make`; ends with a checkpoint.
fn live(handle: &Handle, given: &Given, make: impl Fn(&dyn Fn() -> Answer)) -> Vec<u8> {
    let Given { param, grad, sparse } = given;
    make(&|| try_add(handle, "w", param).map(drop));
    make(&|| handle.set_grad_tensor(0, &grad.tensor()));
    make(&|| handle.try_step());
    make(&|| handle.accumulate_tensor(0, &grad.tensor()));
    make(&|| handle.try_step());
    for (rows, values) in sparse {
        make(&|| handle.set_sparse_grad_tensors(0, &rows.tensor(), &values.tensor()));
        make(&|| handle.try_step());
    }
    make(&|| handle.set_grad_tensor(0, &grad.tensor()));
    make(&|| handle.prepare());
    make(&|| handle.try_add_group(&handle.group(0)).map(drop));
    make(&|| {
        let mut group = handle.group(0);
        group.lazy_mode = ADAMW_LAZY_OFF;
        handle.set_group(0, &group)
    });
    make(&|| handle.set_statistics(1));
    make(&|| handle.try_step());
    handle.saved(true)
}

#[test]
fn whichever_piece_is_refused_the_host_is_told_nothing_has_changed_and_nothing_is_lost() {
    let _device = Device::with(&[("blocks", "1"), ("global_races", "0")]);
    let given = Given::new();
    let expected = live(&Handle::new(&all_kinds(config())), &given, |call| call().unwrap());
    let arena = Arena::new();
    for nth in 1.. {
        let given = Given::new();
        let handle = Handle::new(&all_kinds(arena.config()));
        arena.fails_in.set(nth);
        let saved = live(&handle, &given, |call| {
            if let Err(failure) = call() {
                assert_eq!(failure.status, Status::OutOfMemory);
                let text = failure.text;
                assert!(text.contains("device_alloc returned -7 for "), "{text}");
                assert_eq!(arena.fails_in.get(), 0);
                call().unwrap(); // as if it had never been made
            }
        });
        assert!(saved == expected, "{nth}");
        drop(handle);
        assert_eq!(arena.n_used(), 0, "{nth}");
        if arena.fails_in.get() > 0 {
            assert!(nth > 8, "{nth}");
            return;
        }
    }
}

#[test]
fn addresses_that_are_no_use_are_refused_and_given_back() {
    struct Useless {
        address: Cell<u64>,
        n_out: Cell<i32>,
    }
    unsafe extern "C" fn alloc(
        _: usize,
        _: i32,
        _: *mut c_void,
        out_address: *mut *mut c_void,
        user_data: *mut c_void,
    ) -> i32 {
        // SAFETY: set below.
        let useless = unsafe { from_user_data::<Useless>(user_data) };
        useless.n_out.set(useless.n_out.get() + 1);
        // SAFETY: the library's place for it.
        unsafe { *out_address = with_exposed_provenance_mut(useless.address.get() as usize) };
        0
    }
    unsafe extern "C" fn free(
        address: *mut c_void,
        _: usize,
        _: i32,
        _: *mut c_void,
        user_data: *mut c_void,
    ) -> i32 {
        // SAFETY: as above.
        let useless = unsafe { from_user_data::<Useless>(user_data) };
        let is_it = address.expose_provenance() as u64 == useless.address.get();
        useless.n_out.set(useless.n_out.get() - i32::from(is_it));
        0
    }
    let _device = Device::new();
    let given = Given::new();
    let one = OnDevice::of(&Array::zeros(Dtype::U8, 4096), 0);
    let there = one.address();
    for (address, told) in [
        (there + 16, "expected a multiple of 256"),
        (0x1000, "which are no memory of device 0"),
        (there + 4096 - 256, "which are no memory of device 0"),
    ] {
        let useless = Useless { address: Cell::new(address), n_out: Cell::new(0) };
        let handle = Handle::new(&adamw_config {
            device_alloc: Some(alloc),
            device_free: Some(free),
            device_memory_data: user_data(&useless),
            ..config()
        });
        let failure = try_add(&handle, "w", &given.param).unwrap_err();
        assert!(failure.text.contains(told), "{}", failure.text);
        assert_eq!(failure.status, Status::Callback);
        assert_eq!((useless.n_out.get(), handle.num_params()), (0, 0));
    }
}

/// A stepped parameter whose work waits, and what the processor makes of it.
fn queued(config: &adamw_config, stream: &Stream) -> (Handle, [OnDevice; 2], Array) {
    let random = &mut Random::new(3);
    let [param, grad] = [(); 2].map(|()| Array::ordinary(Dtype::F32, 3_000, random));
    let there = [&param, &grad].map(|array| OnDevice::of(array, 0));
    let handle = Handle::new(config);
    let mut tensors = [None; 9];
    tensors[0] = Some(there[0].tensor());
    handle.try_add_tensors(&Param::new("w", &param), tensors).unwrap();
    handle.set_grad_tensor(0, &there[1].tensor()).unwrap();
    handle.set_stream(stream.raw().cast()).unwrap();
    handle.step();
    let here = Handle::new(config);
    here.add(&Param::new("w", &param));
    here.set_grad(0, &grad);
    here.step();
    (handle, there, param)
}

#[test]
fn work_is_done_before_memory_is_given_back_also_where_nothing_may_wait_for_its_stream() {
    let device = Device::with(&[("lazy", "1")]);
    let arena = Arena::new();
    let (stream, other) = (Stream::new(), Stream::new());
    for config in sources(&arena) {
        let config = adamw_config { lr: 0.1, ..config };
        for leaves in [false, true] {
            let (handle, [param, _grad], expected) = queued(&config, &stream);
            // Nothing may wait for the stream now, nor mark what it has yet to do.
            let mut handle = Some(handle);
            let graph = stream.capture(|| match leaves {
                true => handle.as_ref().unwrap().set_stream(other.raw().cast()).unwrap(),
                false => drop(handle.take()),
            });
            drop(handle);
            drop(graph);
            device.wait();
            assert_eq!(param.array().unwrap().first_difference(&expected), None);
        }
        let (handle, [param, _grad], expected) = queued(&config, &stream);
        drop(handle);
        device.wait();
        assert_eq!(param.array().unwrap().first_difference(&expected), None);
    }
    assert_eq!(arena.n_used(), 0);
}

#[test]
fn step_counts_move_when_earlier_streams_have_counted() {
    let _device = Device::with(&[("lazy", "1")]);
    let arena = Arena::new();
    for config in sources(&arena) {
        let (earlier, later) = (Stream::new(), Stream::new());
        let mut twin = Twin::new(&adamw_config { lr: 0.1, ..config });
        twin.add(Dtype::F32, 100);
        twin.device.set_stream(earlier.raw().cast()).unwrap();
        twin.set_grads();
        twin.step();
        // Nothing has the second stream wait for the first, which has yet to step.
        twin.device.set_stream(later.raw().cast()).unwrap();
        for _ in 0..4 {
            twin.add(Dtype::F32, 20);
        }
        earlier.wait();
        twin.set_new_grads();
        twin.step();
        later.wait();
        twin.assert_same();
    }
    assert_eq!(arena.n_used(), 0);
}

#[test]
fn the_hosts_allocator_is_told_the_stream_of_the_handle() {
    struct Streams(RefCell<Vec<usize>>, Arena);
    unsafe extern "C" fn noted_alloc(
        num_bytes: usize,
        device: i32,
        stream: *mut c_void,
        out_address: *mut *mut c_void,
        data: *mut c_void,
    ) -> i32 {
        // SAFETY: set below.
        let streams = unsafe { from_user_data::<Streams>(data) };
        streams.0.borrow_mut().push(stream.expose_provenance());
        // SAFETY: what the library gave.
        unsafe { alloc(num_bytes, device, stream, out_address, user_data(&streams.1)) }
    }
    unsafe extern "C" fn noted_free(
        address: *mut c_void,
        num_bytes: usize,
        device: i32,
        stream: *mut c_void,
        data: *mut c_void,
    ) -> i32 {
        // SAFETY: as above.
        let streams = unsafe { from_user_data::<Streams>(data) };
        streams.0.borrow_mut().push(stream.expose_provenance());
        // SAFETY: as above.
        unsafe { free(address, num_bytes, device, stream, user_data(&streams.1)) }
    }
    let _device = Device::new();
    let (stream, given) = (Stream::new(), Given::new());
    let streams = Streams(RefCell::default(), Arena::new());
    let handle = Handle::new(&adamw_config {
        device_alloc: Some(noted_alloc),
        device_free: Some(noted_free),
        device_memory_data: user_data(&streams),
        ..config()
    });
    let seen = |expected: usize| {
        let seen = streams.0.take();
        assert!(!seen.is_empty() && seen.iter().all(|stream| *stream == expected), "{seen:x?}");
    };
    try_add(&handle, "v", &given.param).unwrap();
    seen(0);
    handle.set_stream(stream.raw().cast()).unwrap();
    try_add(&handle, "w", &given.grad).unwrap();
    seen(stream.raw().expose_provenance());
    handle.remove(1).unwrap();
    seen(stream.raw().expose_provenance());
    handle.set_stream(null_mut()).unwrap();
    drop(handle);
    seen(0);
    assert_eq!(streams.1.n_used(), 0);
}
