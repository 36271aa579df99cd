//! Contexts: the primary one, and which one is current to a thread.
#![allow(non_snake_case)]

use super::call;
use super::code::Code;
use super::raw::Out;
use super::state::{CONTEXTS, Driver, Handle, Primary};
use std::ffi::c_int;

impl Driver {
    pub fn retain(&mut self) -> Handle {
        if let Some(primary) = &mut self.primary {
            primary.references += 1;
            return primary.handle;
        }
        let handle = self.handle();
        self.primary = Some(Primary { handle, references: 1 });
        handle
    }

    /// What the context owned stays countable, so that a test can see what was left behind.
    pub fn release(&mut self) -> Result<(), Code> {
        let primary = self.primary.as_mut().ok_or(Code::INVALID_CONTEXT)?;
        primary.references -= 1;
        if primary.references == 0 {
            // Its work is done before it goes, well or badly.
            let _ = self.wait_for_all();
            self.primary = None;
        }
        Ok(())
    }

    fn need_handle(&self, context: Handle) -> Result<(), Code> {
        match &self.primary {
            Some(primary) if primary.handle == context => Ok(()),
            _ => Err(Code::INVALID_CONTEXT),
        }
    }
}

/// The thread's current context, or null.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetCurrent(context: Out<usize>) -> c_int {
    call("cuCtxGetCurrent", format_args!(""), |driver| {
        driver.need_initialized()?;
        context.set(CONTEXTS.with_borrow(|contexts| contexts.last().copied().unwrap_or(0)))
    })
}

/// Replaces the thread's current context; null leaves the one below.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCurrent(context: usize) -> c_int {
    call("cuCtxSetCurrent", format_args!("context={context:#x}"), |driver| {
        driver.need_initialized()?;
        if context != 0 {
            driver.need_handle(context)?;
        }
        CONTEXTS.with_borrow_mut(|contexts| {
            contexts.pop();
            contexts.extend((context != 0).then_some(context));
        });
        Ok(())
    })
}

/// Makes a context current above the one that was.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxPushCurrent_v2(context: usize) -> c_int {
    call("cuCtxPushCurrent_v2", format_args!("context={context:#x}"), |driver| {
        driver.need_initialized()?;
        driver.need_handle(context)?;
        CONTEXTS.with_borrow_mut(|contexts| contexts.push(context));
        Ok(())
    })
}

/// Makes the one below current again.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxPopCurrent_v2(context: Out<usize>) -> c_int {
    call("cuCtxPopCurrent_v2", format_args!(""), |driver| {
        driver.need_initialized()?;
        let popped = CONTEXTS.with_borrow_mut(Vec::pop).ok_or(Code::INVALID_CONTEXT)?;
        context.set_if_given(popped);
        Ok(())
    })
}

/// The current context's device.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetDevice(device: Out<c_int>) -> c_int {
    call("cuCtxGetDevice", format_args!(""), |driver| {
        driver.need_context()?;
        device.set(0)
    })
}

/// Waits for all work.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSynchronize() -> c_int {
    call("cuCtxSynchronize", format_args!(""), |driver| {
        driver.need_context()?;
        driver.refuse_any_capture()?;
        driver.wait_for_all()
    })
}
