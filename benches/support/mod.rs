//! What the benches share: memory on huge pages, an optimizer over it, and the loop that shows
//! what the memory allows.

#![allow(dead_code, reason = "each bench is a crate of its own and uses a part of this")]

pub mod bare;
pub mod before;
pub mod idle;
pub mod library;
pub mod modes;
pub mod report;
pub mod rows;

use adamw::ffi::*;
use std::ffi::CString;
use std::ptr::{from_ref, null, null_mut};

/// Zeroed elements on huge pages, so that both sides of a comparison have the same pages.
pub struct Elements<T> {
    address: *mut T,
    count: usize,
    /// The whole mapping.
    mapped: (*mut libc::c_void, usize),
}

impl<T> Drop for Elements<T> {
    fn drop(&mut self) {
        // SAFETY: `new` mapped it.
        unsafe { libc::munmap(self.mapped.0, self.mapped.1) };
    }
}

// SAFETY: owned memory.
unsafe impl<T: Send> Send for Elements<T> {}
// SAFETY: owned memory.
unsafe impl<T: Sync> Sync for Elements<T> {}

const HUGE_PAGE: usize = 2 << 20;

impl<T: Copy> Elements<T> {
    pub fn new(count: usize, value: T) -> Self {
        let bytes = (count * size_of::<T>()).next_multiple_of(HUGE_PAGE) + HUGE_PAGE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping.
        let (start, address) = unsafe {
            let start = libc::mmap(null_mut(), bytes, access, kind, -1, 0);
            assert_ne!(start, libc::MAP_FAILED, "no memory for {bytes} bytes");
            let address = start.byte_add(start.align_offset(HUGE_PAGE));
            libc::madvise(address, bytes - HUGE_PAGE, libc::MADV_HUGEPAGE);
            (start, address.cast::<T>())
        };
        let mut elements = Elements { address, count, mapped: (start, bytes) };
        elements.slice().fill(value);
        elements
    }

    pub fn slice(&mut self) -> &mut [T] {
        // SAFETY: the mapping is that long, zeroed, and borrowed by `&mut self`.
        unsafe { std::slice::from_raw_parts_mut(self.address, self.count) }
    }
}

/// The four or five streams of a step, and an optimizer that steps them.
pub struct Streams<P> {
    pub param: Elements<P>,
    pub grad: Elements<P>,
    /// For 16-bit parameters.
    pub master: Option<Elements<f32>>,
    pub remainder: Option<Elements<u16>>,
    pub exp_avg: Elements<f32>,
    pub exp_avg_sq: Elements<f32>,
}

/// A parameter and its gradient, with state of the library's own.
pub struct Owned<P> {
    param: Elements<P>,
    grad: Elements<P>,
}

impl<P: Param> Owned<P> {
    pub fn new(count: usize) -> Self {
        Owned { param: Elements::new(count, P::VALUE), grad: Elements::new(count, P::GRAD) }
    }

    pub fn optimizer(&mut self, config: &adamw_config) -> Optimizer {
        self.optimizer_with(config, &adamw_param_config::DEFAULT)
    }

    /// The same with state of the host's.
    pub fn optimizer_with(
        &mut self,
        config: &adamw_config,
        state: &adamw_param_config,
    ) -> Optimizer {
        let mut optimizer = Optimizer::new(config);
        let mut n = self.param.count as i64;
        let param = tensor(self.param.slice().as_mut_ptr(), P::CODE, &mut n);
        let grad = tensor(self.grad.slice().as_mut_ptr(), P::CODE, &mut n);
        optimizer.add(0, &param, &grad, state);
        optimizer
    }
}

/// Parameters of one element type.
pub trait Param: Copy + Send + Sync + 'static {
    const NAME: &'static str;
    const CODE: u8;
    const HAS_MASTER: bool;
    /// The lower half of a split master.
    const HAS_REMAINDER: bool = false;
    const VALUE: Self;
    const GRAD: Self;
    fn bits(self) -> u32;
    fn from_bits(bits: u32) -> Self;
}

impl Param for f32 {
    const NAME: &'static str = "f32";
    const CODE: u8 = 2;
    const HAS_MASTER: bool = false;
    const VALUE: f32 = 0.5;
    const GRAD: f32 = 0.01;
    #[inline(always)]
    fn bits(self) -> u32 {
        self.to_bits()
    }
    #[inline(always)]
    fn from_bits(bits: u32) -> f32 {
        f32::from_bits(bits)
    }
}

/// bf16, as its bits.
impl Param for u16 {
    const NAME: &'static str = "bf16 + master";
    const CODE: u8 = 4;
    const HAS_MASTER: bool = true;
    const VALUE: u16 = 0x3f00;
    const GRAD: u16 = 0x3c24;
    #[inline(always)]
    fn bits(self) -> u32 {
        self as u32
    }
    #[inline(always)]
    fn from_bits(bits: u32) -> u16 {
        bits as u16
    }
}

/// f16, as its bits.
#[derive(Clone, Copy)]
pub struct Half(u16);

impl Param for Half {
    const NAME: &'static str = "f16 + master";
    const CODE: u8 = 2;
    const HAS_MASTER: bool = true;
    const VALUE: Half = Half(0x3800);
    const GRAD: Half = Half(0x211f);
    #[inline(always)]
    fn bits(self) -> u32 {
        self.0 as u32
    }
    #[inline(always)]
    fn from_bits(bits: u32) -> Half {
        Half(bits as u16)
    }
}

/// bf16 with a split master, as its bits.
#[derive(Clone, Copy)]
pub struct Split(u16);

impl Param for Split {
    const NAME: &'static str = "bf16 + remainder";
    const CODE: u8 = 4;
    const HAS_MASTER: bool = false;
    const HAS_REMAINDER: bool = true;
    const VALUE: Split = Split(0x3f00);
    const GRAD: Split = Split(0x3c24);
    #[inline(always)]
    fn bits(self) -> u32 {
        self.0 as u32
    }
    #[inline(always)]
    fn from_bits(bits: u32) -> Split {
        Split(bits as u16)
    }
}

impl<P: Param> Streams<P> {
    pub fn new(count: usize) -> Self {
        Streams {
            param: Elements::new(count, P::VALUE),
            grad: Elements::new(count, P::GRAD),
            master: P::HAS_MASTER.then(|| Elements::new(count, 0.5)),
            remainder: P::HAS_REMAINDER.then(|| Elements::new(count, 0)),
            exp_avg: Elements::new(count, 0.01),
            exp_avg_sq: Elements::new(count, 0.01),
        }
    }

    /// Bytes that a step must move for each element: all streams read, all but grad written.
    pub fn bytes_per_element(&self) -> usize {
        let moments = 2 * size_of::<f32>();
        let param = if P::HAS_MASTER { 0 } else { size_of::<P>() };
        let master = if P::HAS_MASTER { size_of::<f32>() } else { 0 };
        let remainder = if P::HAS_REMAINDER { 2 * size_of::<u16>() } else { 0 };
        size_of::<P>() + param + master + moments + size_of::<P>() + master + moments + remainder
    }

    /// An optimizer of these streams cut into parameters of `part` elements.
    pub fn optimizer(&mut self, part: usize, threads: u32) -> Optimizer {
        self.optimizer_with(part, threads, |_| ())
    }

    /// An optimizer of these streams cut into parameters of these lengths, with so many elements
    /// between them.
    pub fn optimizer_of(
        &mut self,
        parts: &[usize],
        between: usize,
        config: &adamw_config,
    ) -> Optimizer {
        let mut optimizer = Optimizer::new(config);
        self.add_parts(&mut optimizer, parts.iter().copied(), between);
        optimizer
    }

    /// The same with other options.
    pub fn optimizer_with(
        &mut self,
        part: usize,
        threads: u32,
        edit: impl FnOnce(&mut adamw_config),
    ) -> Optimizer {
        let mut config = adamw_config {
            num_threads: threads,
            multi_precision: P::HAS_MASTER as u32,
            precision: P::HAS_REMAINDER as u32,
            ..Optimizer::defaults()
        };
        edit(&mut config);
        let mut optimizer = Optimizer::new(&config);
        self.add_to(&mut optimizer, part);
        optimizer
    }

    /// Adds these streams, cut into parameters of `part` elements.
    pub fn add_to(&mut self, optimizer: &mut Optimizer, part: usize) {
        let count = self.param.count;
        let parts = (0..count).step_by(part).map(|start| (count - start).min(part));
        self.add_parts(optimizer, parts, 0);
    }

    fn add_parts(
        &mut self,
        optimizer: &mut Optimizer,
        parts: impl Iterator<Item = usize>,
        between: usize,
    ) {
        let mut next = 0;
        for part in parts {
            let start = next;
            next += part + between;
            let mut n = part as i64;
            let f32s = |from: &mut Elements<f32>, n: *mut i64| {
                tensor(from.slice()[start..].as_mut_ptr(), 2, n)
            };
            let param = tensor(self.param.slice()[start..].as_mut_ptr(), P::CODE, &mut n);
            let grad = tensor(self.grad.slice()[start..].as_mut_ptr(), P::CODE, &mut n);
            let exp_avg = f32s(&mut self.exp_avg, &mut n);
            let exp_avg_sq = f32s(&mut self.exp_avg_sq, &mut n);
            let master = self.master.as_mut().map(|master| f32s(master, &mut n));
            let remainder = self
                .remainder
                .as_mut()
                .map(|remainder| tensor(remainder.slice()[start..].as_mut_ptr(), 0, &mut n));
            let pointer = |tensor: &Option<adamw_tensor>| tensor.as_ref().map_or(null(), from_ref);
            let state = adamw_param_config {
                exp_avg: &exp_avg,
                exp_avg_sq: &exp_avg_sq,
                master: pointer(&master),
                remainder: pointer(&remainder),
                ..adamw_param_config::DEFAULT
            };
            optimizer.add(start, &param, &grad, &state);
        }
    }

    /// Reads the gradients, as the pass for a norm does.
    pub fn read_grads(&mut self, pool: Option<&rayon::ThreadPool>) {
        let read = |grads: &mut [P]| {
            std::hint::black_box(grads.iter().fold(0, |any, grad| any | grad.bits()));
        };
        halves(pool, self.grad.slice(), read);
    }

    /// Writes the gradients, as clearing them does.
    pub fn write_grads(&mut self, pool: Option<&rayon::ThreadPool>) {
        let value = std::hint::black_box(P::GRAD);
        halves(pool, self.grad.slice(), |grads: &mut [P]| grads.fill(value));
    }

    /// The same streams read and written as in a step, with an addition for arithmetic.
    pub fn traffic(&mut self, pool: Option<&rayon::ThreadPool>) {
        let param = self.param.slice();
        let grad = self.grad.slice();
        let moments = (self.exp_avg.slice(), self.exp_avg_sq.slice());
        let master = self.master.as_mut().map_or(&mut [][..], Elements::slice);
        let remainder = self.remainder.as_mut().map_or(&mut [][..], Elements::slice);
        match pool {
            None => traffic(param, grad, (master, remainder), moments.0, moments.1),
            Some(pool) => {
                let half = param.len() / 2;
                let (p0, p1) = param.split_at_mut(half);
                let (g0, g1) = grad.split_at(half);
                let (w0, w1) = master.split_at_mut(half.min(master.len()));
                let (r0, r1) = remainder.split_at_mut(half.min(remainder.len()));
                let (m0, m1) = moments.0.split_at_mut(half);
                let (v0, v1) = moments.1.split_at_mut(half);
                pool.install(|| {
                    rayon::join(
                        || traffic(p0, g0, (w0, r0), m0, v0),
                        || traffic(p1, g1, (w1, r1), m1, v1),
                    )
                });
            }
        }
    }
}

/// Works on the whole, or on each half on a thread of the pool.
fn halves<T: Send>(
    pool: Option<&rayon::ThreadPool>,
    all: &mut [T],
    work: impl Fn(&mut [T]) + Sync,
) {
    match pool {
        None => work(all),
        Some(pool) => {
            let (left, right) = all.split_at_mut(all.len() / 2);
            pool.install(|| rayon::join(|| work(left), || work(right)));
        }
    }
}

/// A handle that ends with its scope.
pub struct Optimizer(*mut adamw::ffi::Optimizer);

impl Optimizer {
    pub fn defaults() -> adamw_config {
        // SAFETY: a struct of numbers and nullable pointers, and a valid pointer to it.
        unsafe {
            let mut config = std::mem::zeroed();
            check(adamw_config_init(&mut config, size_of::<adamw_config>()));
            config
        }
    }

    pub fn raw(&self) -> *mut adamw::ffi::Optimizer {
        self.0
    }

    pub fn new(config: &adamw_config) -> Self {
        let mut handle = null_mut();
        // SAFETY: plain calls with valid pointers.
        check(unsafe { adamw_create(config, &mut handle) });
        Optimizer(handle)
    }

    fn add(
        &mut self,
        number: usize,
        param: &adamw_tensor,
        grad: &adamw_tensor,
        state: &adamw_param_config,
    ) {
        let name = CString::new(format!("param.{number}")).unwrap();
        // SAFETY: the streams outlive the bench's use of the optimizer.
        unsafe {
            let config = adamw_param_config {
                struct_size: size_of::<adamw_param_config>(),
                name: name.as_ptr(),
                param,
                ..*state
            };
            let mut number = 0;
            check(adamw_add_param(self.0, &config, &mut number));
            check(adamw_set_grad(self.0, number, grad));
        }
    }

    /// The gradient of the first parameter.
    pub fn set_sparse_grad(&mut self, rows: &adamw_tensor, values: &adamw_tensor) {
        // SAFETY: the table outlives the bench's use of the optimizer.
        check(unsafe { adamw_set_sparse_grad(self.0, 0, rows, values) });
    }

    pub fn step(&mut self) {
        check(adamw_step(self.0));
    }
}

impl Drop for Optimizer {
    fn drop(&mut self) {
        check(adamw_destroy(self.0));
    }
}

pub fn check(status: Status) {
    // SAFETY: the text is NUL-terminated.
    let text = || unsafe { std::ffi::CStr::from_ptr(adamw_last_error()) };
    assert_eq!(status, Status::Ok, "{:?}", text());
}

fn tensor<T>(data: *mut T, code: u8, shape: *mut i64) -> adamw_tensor {
    adamw_tensor {
        data: data.cast(),
        device: adamw_device { device_type: 1, device_id: 0 },
        ndim: 1,
        dtype: adamw_data_type { code, bits: 8 * size_of::<T>() as u8, lanes: 1 },
        shape,
        strides: null_mut(),
        byte_offset: 0,
    }
}

/// Adds zero to every stream, which the compiler cannot know: nothing changes but the time.
fn traffic<P: Param>(
    param: &mut [P],
    grad: &[P],
    kept: (&mut [f32], &mut [u16]),
    exp_avg: &mut [f32],
    exp_avg_sq: &mut [f32],
) {
    let zero = std::hint::black_box(0u32);
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: the features were detected.
        unsafe {
            if is_x86_feature_detected!("avx512f") {
                return traffic_avx512(param, grad, kept, exp_avg, exp_avg_sq, zero);
            }
            if is_x86_feature_detected!("avx2") {
                return traffic_avx2(param, grad, kept, exp_avg, exp_avg_sq, zero);
            }
        }
    }
    traffic_loop(param, grad, kept, exp_avg, exp_avg_sq, zero)
}

macro_rules! traffic_with {
    ($name:ident, $features:literal) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        unsafe fn $name<P: Param>(
            param: &mut [P],
            grad: &[P],
            kept: (&mut [f32], &mut [u16]),
            exp_avg: &mut [f32],
            exp_avg_sq: &mut [f32],
            zero: u32,
        ) {
            traffic_loop(param, grad, kept, exp_avg, exp_avg_sq, zero)
        }
    };
}

traffic_with!(traffic_avx2, "avx2");
traffic_with!(traffic_avx512, "avx512f,avx512bw,avx512vl,avx512dq");

#[inline(always)]
fn traffic_loop<P: Param>(
    param: &mut [P],
    grad: &[P],
    kept: (&mut [f32], &mut [u16]),
    exp_avg: &mut [f32],
    exp_avg_sq: &mut [f32],
    zero: u32,
) {
    let (master, remainder) = kept;
    // Blocks keep the loops of mixed widths apart, as the library's own do.
    for (at, param) in param.chunks_mut(512).enumerate() {
        let range = at * 512..at * 512 + param.len();
        let grad = &grad[range.clone()];
        let exp_avg = &mut exp_avg[range.clone()];
        let exp_avg_sq = &mut exp_avg_sq[range.clone()];
        let n = param.len();
        if P::HAS_REMAINDER {
            let remainder = &mut remainder[range];
            for i in 0..n {
                let grad = grad[i].bits() & zero;
                remainder[i] |= grad as u16;
                exp_avg[i] = f32::from_bits(exp_avg[i].to_bits() | grad);
                exp_avg_sq[i] = f32::from_bits(exp_avg_sq[i].to_bits() | grad);
            }
            for param in param {
                *param = P::from_bits(param.bits() | zero);
            }
        } else if P::HAS_MASTER {
            let master = &mut master[range];
            for i in 0..n {
                let grad = grad[i].bits() & zero;
                master[i] = f32::from_bits(master[i].to_bits() | grad);
                exp_avg[i] = f32::from_bits(exp_avg[i].to_bits() | grad);
                exp_avg_sq[i] = f32::from_bits(exp_avg_sq[i].to_bits() | grad);
            }
            for param in param {
                *param = P::VALUE;
            }
        } else {
            for i in 0..n {
                let grad = grad[i].bits() & zero;
                param[i] = P::from_bits(param[i].bits() | grad);
                exp_avg[i] = f32::from_bits(exp_avg[i].to_bits() | grad);
                exp_avg_sq[i] = f32::from_bits(exp_avg_sq[i].to_bits() | grad);
            }
        }
    }
}
