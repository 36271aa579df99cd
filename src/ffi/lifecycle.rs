//! Creation and destruction of a handle.
#![allow(non_camel_case_types)]

use super::sized;
use super::{Status, adamw_clip, adamw_config, adamw_formula, flag, guard, handle, reserved, team};
use crate::callback::{DeviceAllocator, ParallelFor};
use crate::clip::{Clip, ClipKind, NormScope};
use crate::config::{
    self, BiasCorrection, Config, DeviceConfig, DeviceMemory, DevicePool, GroupConfig, HostValues,
    IsaCap, Lazy, Nonfinite, Threads,
};
use crate::error::Error;
use crate::format::{MomentFormat, Precision};
use crate::tensor::HostNumber;

pub use crate::optimizer::Optimizer;

/// Creates an optimizer without parameters and writes its handle to `out_optimizer`. If `config` is
/// NULL, the optimizer has the defaults. The handle belongs to the caller, who ends it with
/// `adamw_destroy`.
///
/// # Safety
/// `config` is NULL or readable; `out_optimizer` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_create(
    config: *const adamw_config,
    out_optimizer: *mut *mut Optimizer,
) -> Status {
    guard(|| {
        let config = match config.is_null() {
            true => adamw_config::DEFAULT,
            // SAFETY: the caller guarantees it.
            false => unsafe { sized::read(config, adamw_config::DEFAULT) }?,
        };
        if out_optimizer.is_null() {
            return Err(Error::Null("out_optimizer"));
        }
        // SAFETY: the header requires that the host's functions and addresses are valid.
        let (config, threads) = unsafe { (checked(&config)?, threads(&config)?) };
        let handle = handle::insert(Optimizer::new(config, threads)?)?;
        // SAFETY: not NULL, and the caller guarantees the rest.
        unsafe { out_optimizer.write_unaligned(handle) };
        Ok(())
    })
}

/// Destroys an optimizer. Its threads are joined, if no other handle has a part in them, and its
/// own memory is freed before this returns; the host's buffers stay as they are. NULL does nothing.
/// Any further use of the handle is `ADAMW_STATUS_BAD_HANDLE`.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_destroy(optimizer: *mut Optimizer) -> Status {
    guard(|| if optimizer.is_null() { Ok(()) } else { handle::remove(optimizer) })
}

/// Returns the threads that C code asked for.
///
/// # Safety
/// The requirements of `ParallelFor::new` hold.
unsafe fn threads(config: &adamw_config) -> Result<Threads, Error> {
    // SAFETY: the caller guarantees it.
    let host = unsafe { ParallelFor::new(config.parallel_for, config.parallel_for_data) };
    let count = (config.num_threads > 0).then_some(config.num_threads as usize);
    if config.team.is_null() {
        return Ok(Threads { count, host, team: None });
    }
    if host.is_some() {
        return Err(Error::TeamAndLoop);
    }
    if config.num_threads > 0 {
        let expected = "0 where config.team is set, which has a number of its own";
        return Err(Error::Constant {
            name: "config.num_threads",
            value: config.num_threads,
            expected,
        });
    }
    let team = team::of(config.team)?;
    Ok(Threads { count: Some(team.n_threads()), host, team: Some(team) })
}

/// Checks the values that C code gave.
///
/// # Safety
/// The requirements of `HostNumber::new` and of `DeviceAllocator::new` hold.
unsafe fn checked(config: &adamw_config) -> Result<Config, Error> {
    let [eps_before_correction, decays_new_value] = formula("config.formula", config.formula)?;
    reserved("config.reserved", config.reserved)?;
    Ok(Config {
        lr: config.lr,
        // SAFETY: the caller guarantees it.
        lr_ptr: unsafe { HostNumber::new(config.lr_ptr) },
        group: GroupConfig {
            lr_scale: 1.0,
            weight_decay: config.weight_decay,
            independent_weight_decay: flag(
                "config.independent_weight_decay",
                config.independent_weight_decay,
            )?,
            maximize: flag("config.maximize", config.maximize)?,
            beta1: config.beta1,
            beta2: config.beta2,
            eps: config.eps,
            bias_correction: BiasCorrection::of("config.bias_correction", config.bias_correction)?,
            eps_before_correction,
            decays_new_value,
            clip: clip(
                "config.clip",
                config.clip,
                config.clip_norm,
                (config.clip_min, config.clip_max),
            )?,
            lazy: Lazy::of("config.lazy_mode", config.lazy_mode)?,
            amsgrad: flag("config.amsgrad", config.amsgrad)?,
            precision: Precision::of("precision", config.precision)?,
            moments: MomentFormat::of("moments", config.moments)?,
            // SAFETY: the caller guarantees it.
            host_values: unsafe {
                host_values(
                    core::ptr::null(),
                    config.weight_decay_ptr,
                    config.beta1_ptr,
                    config.beta2_ptr,
                )
            },
        },
        multi_precision: flag("config.multi_precision", config.multi_precision)?,
        average_grads: flag("config.average_grads", config.average_grads)?,
        clear_grads: flag("config.clear_grads", config.clear_grads)?,
        nonfinite: Nonfinite::of("config.nonfinite", config.nonfinite)?,
        clip_scope: NormScope::of("config.clip_scope", config.clip_scope)?,
        isa: IsaCap::of("config.isa", config.isa)?,
        seed: config.seed,
        device: DeviceConfig {
            // SAFETY: the caller guarantees it.
            memory: unsafe { device_memory(config) }?,
            most_pinned: most_pinned(config.pinned_bytes)?,
        },
    })
}

/// Returns where memory on a device comes from.
///
/// # Safety
/// The requirements of `DeviceAllocator::new` hold.
unsafe fn device_memory(config: &adamw_config) -> Result<DeviceMemory, Error> {
    let (alloc, free) = (config.device_alloc, config.device_free);
    let pool = DevicePool::of("config.device_memory", config.device_memory)?;
    // SAFETY: the caller guarantees it.
    match unsafe { DeviceAllocator::new(alloc, free, config.device_memory_data) }? {
        Some(_) if pool != DevicePool::Default => Err(Error::Constant {
            name: "config.device_memory",
            value: config.device_memory,
            expected: "0 where config.device_alloc is set, which gives the memory",
        }),
        Some(allocator) => Ok(DeviceMemory::Host(allocator)),
        None => Ok(DeviceMemory::Driver(pool)),
    }
}

/// Returns the limit of pinned memory, if there is one.
fn most_pinned(bytes: u64) -> Result<Option<usize>, Error> {
    let expected = "0 for no limit, or 65536 and more";
    config::check(
        "config.pinned_bytes",
        bytes as f64,
        bytes == 0 || bytes >= config::LEAST_PINNED,
        expected,
    )?;
    Ok((bytes > 0).then_some(bytes as usize))
}

/// # Safety
/// The requirements of `HostNumber::new` hold for all four.
pub(super) unsafe fn host_values(
    lr_scale: *const f32,
    weight_decay: *const f32,
    beta1: *const f32,
    beta2: *const f32,
) -> HostValues {
    // SAFETY: the caller guarantees it.
    unsafe {
        HostValues {
            lr_scale: HostNumber::new(lr_scale),
            weight_decay: HostNumber::new(weight_decay),
            beta1: HostNumber::new(beta1),
            beta2: HostNumber::new(beta2),
        }
    }
}

/// Returns whether eps is added before the correction, and whether the new value decays.
pub(super) fn formula(name: &'static str, value: adamw_formula) -> Result<[bool; 2], Error> {
    let flags = [config::EPS_BEFORE_CORRECTION, config::DECAYS_NEW_VALUE];
    if value & !(flags[0] | flags[1]) != 0 {
        let expected = "ADAMW_FORMULA constants added up, 0 to 3";
        return Err(Error::Constant { name, value, expected });
    }
    Ok(flags.map(|flag| value & flag != 0))
}

pub(super) fn clip(
    name: &'static str,
    value: adamw_clip,
    norm: f64,
    (min, max): (f64, f64),
) -> Result<Clip, Error> {
    match ClipKind::of(name, value)? {
        ClipKind::None => {
            let limits = [("clip_norm", norm), ("clip_min", min), ("clip_max", max)];
            // A limit without a kind of clipping would have no effect, and the host expects one.
            let expected = "0 where clip is ADAMW_CLIP_NONE (set clip to how gradients are to be \
                            clipped)";
            limits
                .into_iter()
                .try_for_each(|(name, n)| config::check(name, n, n == 0.0, expected))?;
            Ok(Clip::None)
        }
        ClipKind::Norm => Ok(Clip::Norm(norm)),
        ClipKind::GlobalNorm => Ok(Clip::GlobalNorm(norm)),
        ClipKind::Value => Ok(Clip::Value { min, max }),
    }
}
