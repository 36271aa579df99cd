//! The floating-point environment: ours while the library computes, the host's in its callbacks.
//!
//! A host may flush denormals to zero, round upward or trap on inexact results. Any of these would
//! change the bits of a step (or end the process), so every entry sets the IEEE 754 default, and
//! puts back what it found, sticky flags included.

use super::thread::PerThread;

/// While a thread is inside the library: that it is, and the host's environment.
static HOST: PerThread = PerThread::new(None);
const INSIDE: usize = 1 << 63;

/// Runs `work` in the default environment, and restores the one it found.
pub fn standard<R>(work: impl FnOnce() -> R) -> R {
    let found = Environment::current();
    let _restored = Restore { environment: found, host: HOST.get() };
    // Where the system has no room for it, callbacks run in the default environment.
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

/// Whether this thread is in `standard`.
pub fn is_inside() -> bool {
    HOST.get() & INSIDE != 0
}

/// Keeps the compiler from moving arithmetic across the switch: the processor's mode is no operand
/// that it knows of.
#[inline(never)]
fn apart<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// Sets what was found again, also when unwinding.
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

    /// MXCSR, which rules SSE and all later vector instructions; x87 is never used.
    #[inline(always)]
    fn current() -> Self {
        let mut control = 0;
        // SAFETY: stores the register to the four bytes of `control`.
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

    /// FPCR and FPSR.
    #[inline(always)]
    fn current() -> Self {
        let (control, status): (u64, u64);
        // SAFETY: reads two registers.
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
