//! The floating-point environment: the default while the library computes, the host's in its
//! callbacks.
//!
//! A host may flush denormals to zero, round upward or trap on inexact results. Any of these would
//! change the bits of a step (or end the process), so every entry sets the IEEE 754 default, and
//! restores the environment that it found, sticky flags included.
//!
//! `standard` is around each call of the C interface and around the work of each thread; it keeps
//! the host's environment in the thread's word (`thread.rs`). `as_host` is around each callback,
//! and reads it there. Both restore by a `Restore`, which is dropped when a panic unwinds, too;
//! both run their work by `apart`, across which the compiler moves no arithmetic. `Environment` is
//! MXCSR on x86-64, FPCR and FPSR on aarch64.

use super::thread::PerThread;

/// The word of a thread: `INSIDE` and the host's environment while it is inside the library.
static HOST: PerThread = PerThread::new(None);
const INSIDE: usize = 1 << 63;

/// Runs `work` in the default environment, and restores the one that it found.
pub fn standard<R>(work: impl FnOnce() -> R) -> R {
    let found = Environment::current();
    let _restored = Restore { environment: found, host: HOST.get() };
    // Where the system has no memory for the word, callbacks run in the default environment.
    let _ = HOST.set(INSIDE | found.to_word());
    Environment::DEFAULT.set();
    apart(work)
}

/// Runs a host function inside `standard` in the environment that the host had set.
pub fn as_host<R>(callback: impl FnOnce() -> R) -> R {
    let host = HOST.get();
    let _restored = Restore { environment: Environment::current(), host };
    if host & INSIDE != 0 {
        Environment::of_word(host & !INSIDE).set();
    }
    apart(callback)
}

/// Returns whether this thread is inside `standard`.
pub fn is_inside() -> bool {
    HOST.get() & INSIDE != 0
}

/// Runs `work`, and keeps the compiler from moving arithmetic across the switch: it does not know
/// that arithmetic depends on the processor's mode.
#[inline(never)]
fn apart<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// Restores an environment and a word when it is dropped, also when a panic unwinds.
struct Restore {
    environment: Environment,
    host: usize,
}

impl Drop for Restore {
    fn drop(&mut self) {
        self.environment.set();
        let _ = HOST.set(self.host);
    }
}

#[derive(Clone, Copy)]
struct Environment {
    control: Register,
}

#[cfg(target_arch = "x86_64")]
type Register = u32;
#[cfg(target_arch = "aarch64")]
type Register = [u64; 2];

#[cfg(target_arch = "x86_64")]
impl Environment {
    /// Round to nearest even, denormals kept, all exceptions masked, no flags raised.
    const DEFAULT: Environment = Environment { control: 0x1f80 };

    fn to_word(self) -> usize {
        self.control as usize
    }

    fn of_word(word: usize) -> Environment {
        Environment { control: word as u32 }
    }

    /// Returns MXCSR, which rules SSE and all later vector instructions; x87 is never used.
    #[inline(always)]
    fn current() -> Self {
        let mut control = 0;
        // SAFETY: the instruction stores the register to the four bytes of `control`.
        unsafe {
            core::arch::asm!("stmxcsr [{}]", in(reg) &raw mut control, options(nostack));
        }
        Environment { control }
    }

    #[inline(always)]
    fn set(self) {
        // SAFETY: the value is the default one, or one that the register held.
        unsafe {
            core::arch::asm!("ldmxcsr [{}]", in(reg) &raw const self.control, options(nostack));
        }
    }
}

#[cfg(target_arch = "aarch64")]
impl Environment {
    /// Round to nearest even, denormals kept, no traps, no flags raised.
    const DEFAULT: Environment = Environment { control: [0, 0] };

    /// Both registers have 32 bits, of which the highest of FPCR is always 0.
    fn to_word(self) -> usize {
        let [control, status] = self.control;
        (control << 32 | status) as usize
    }

    fn of_word(word: usize) -> Environment {
        Environment { control: [word as u64 >> 32, word as u64 & u32::MAX as u64] }
    }

    /// Returns FPCR and FPSR.
    #[inline(always)]
    fn current() -> Self {
        let (control, status): (u64, u64);
        // SAFETY: the instructions read two registers, which any code may.
        unsafe {
            core::arch::asm!("mrs {}, fpcr", "mrs {}, fpsr", out(reg) control, out(reg) status);
        }
        Environment { control: [control, status] }
    }

    #[inline(always)]
    fn set(self) {
        let [control, status] = self.control;
        // SAFETY: the values are the default ones, or ones that the registers held.
        unsafe {
            core::arch::asm!("msr fpcr, {}", "msr fpsr, {}", in(reg) control, in(reg) status);
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    const FLUSH_AND_ROUND_UP: Environment = Environment { control: 0x1f80 | 0x8040 | 0x4000 };

    #[test]
    fn work_runs_in_the_default_and_callbacks_in_the_hosts_environment() {
        FLUSH_AND_ROUND_UP.set();
        standard(|| {
            assert_eq!(Environment::current().control, 0x1f80);
            as_host(|| {
                assert_eq!(Environment::current().control, FLUSH_AND_ROUND_UP.control);
                standard(|| assert_eq!(Environment::current().control, 0x1f80));
                assert_eq!(Environment::current().control, FLUSH_AND_ROUND_UP.control);
            });
            assert_eq!(Environment::current().control, 0x1f80);
        });
        assert_eq!(Environment::current().control, FLUSH_AND_ROUND_UP.control);
        Environment::DEFAULT.set();
    }

    #[test]
    fn a_panic_restores_the_hosts_environment() {
        FLUSH_AND_ROUND_UP.set();
        let unwound = std::panic::catch_unwind(|| standard(|| panic!("on purpose")));
        assert!(unwound.is_err());
        assert_eq!(Environment::current().control, FLUSH_AND_ROUND_UP.control);
        Environment::DEFAULT.set();
    }
}
