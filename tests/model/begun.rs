//! Saves that one of the handles writes while the next calls go on: what the other handle saves at once in
//! its place.

use crate::call::{Aside, Call};
use crate::common::checkpoint::{Folder, c_path, save_args};
use crate::common::handle::Handle;
use crate::common::host::{from_user_data, user_data};
use crate::common::random::Random;
use crate::more::More;
use crate::world::World;
use crate::written::Written;
use adamw::ffi::*;
use core::ffi::c_void;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{current, yield_now};

/// What takes the bytes, and what becomes of them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum To {
    Function,
    File,
    /// Which does not take them all.
    Failing,
    /// A file, which the host gives up.
    Cancelled,
    /// Neither a function nor a file.
    Nowhere,
}

impl To {
    pub fn draw(random: &mut Random) -> To {
        match random.below(16) {
            0 => To::File, // which waits for the disk
            1..4 => To::Failing,
            4..6 => To::Cancelled,
            6 => To::Nowhere,
            _ => To::Function,
        }
    }
}

/// The host's part of a save, on the handle's thread.
struct Taken {
    bytes: Mutex<Vec<u8>>,
    to: To,
    /// Nothing of it ends before.
    goes_on: AtomicBool,
    caller: std::thread::ThreadId,
}

impl Taken {
    fn hold(&self) {
        assert_ne!(current().id(), self.caller, "on the caller's thread");
        while !self.goes_on.load(Ordering::Acquire) {
            yield_now();
        }
    }
}

unsafe extern "C" fn write(data: *const c_void, num_bytes: usize, taken: *mut c_void) -> i32 {
    // SAFETY: the library's bytes, and the `Taken` of the save.
    let (taken, data) = unsafe {
        let data = core::slice::from_raw_parts(data.cast::<u8>(), num_bytes);
        (from_user_data::<Taken>(taken), data)
    };
    taken.hold();
    taken.bytes.lock().unwrap().extend_from_slice(data);
    (taken.to == To::Failing).into()
}

unsafe extern "C" fn progress(_: u64, _: u64, taken: *mut c_void) -> i32 {
    // SAFETY: the `Taken` of the save.
    let taken = unsafe { from_user_data::<Taken>(taken) };
    taken.hold();
    (taken.to == To::Cancelled).into()
}

/// A save that was begun last.
struct Begun {
    taken: Rc<Taken>,
    folder: Folder,
    expected: Vec<u8>,
    fails: bool,
    is_told: bool,
}

impl Begun {
    /// Looks at what it has come to, which must have ended.
    fn assert_whole(&self) {
        let names = self.folder.names();
        if self.fails {
            assert!(names.is_empty(), "a save that has failed leaves {names:?}");
            return;
        }
        let bytes = match self.taken.to {
            To::File | To::Cancelled => {
                assert_eq!(names, ["state"]);
                std::fs::read(self.folder.join("state")).unwrap()
            }
            _ => self.taken.bytes.lock().unwrap().clone(),
        };
        assert_eq!(Written(bytes), Written(self.expected.clone()), "what was begun");
    }

    /// Looks at what the handle says of it, and asks twice.
    fn assert_result(&mut self, handle: &Handle, polls: bool) {
        if polls {
            let ended = loop {
                match handle.save_poll() {
                    Ok((1, done, total)) => assert!(done <= total),
                    ended => break ended,
                }
                yield_now();
            };
            match ended {
                Ok((running, done, total)) => assert_eq!((running, done), (0, total)),
                Err(failure) => assert_eq!(failure.status, Status::Callback),
            }
        }
        for _ in 0..2 {
            match handle.save_wait() {
                Ok((n_bytes, _)) => {
                    assert_eq!((n_bytes, self.fails), (self.expected.len() as u64, false))
                }
                Err(failure) => assert_eq!((failure.status, self.fails), (Status::Callback, true)),
            }
        }
        self.is_told = true;
        self.assert_whole();
    }
}

/// Lets the saves go on that are held up, so that nobody waits for ever.
#[derive(Default)]
pub struct GoOn(Vec<Rc<Taken>>);

impl GoOn {
    pub fn all(&mut self) {
        self.0.drain(..).for_each(|taken| taken.goes_on.store(true, Ordering::Release));
    }
}

impl Drop for GoOn {
    fn drop(&mut self) {
        self.all();
    }
}

/// Those of the one handle and of the other.
#[derive(Default)]
pub struct Saves([Option<Begun>; 2]);

impl Saves {
    /// The handles are gone, and with them whoever wrote.
    pub fn end(&mut self) {
        core::mem::take(self).0.iter().flatten().for_each(Begun::assert_whole);
    }
}

/// Whether a call may wait for a save that was begun.
fn waits(call: &Call) -> bool {
    match call {
        Call::Save | Call::Load { .. } | Call::Restart { .. } => true,
        Call::Begin { .. } | Call::EndBegun { .. } => true,
        Call::Aside(aside) => matches!(
            aside,
            Aside::Reload { .. } | Aside::SaveTwice | Aside::Park(_) | Aside::Wrong { .. }
        ),
        _ => false,
    }
}

impl World {
    /// Lets saves end that this call waits for.
    pub fn let_saves_end(&mut self, call: &Call) {
        if waits(call) {
            self.go_on.all();
        }
    }

    pub fn use_begun(&mut self, call: &Call) -> bool {
        match call {
            Call::Begin { twin, params, to, held } => self.begin(*twin, *params, *to, *held),
            Call::EndBegun { twin, polls } => {
                let side = if *twin { &self.twin } else { &self.plain };
                match &mut self.saves.0[usize::from(*twin)] {
                    Some(begun) => begun.assert_result(&side.handle, *polls),
                    None => assert_eq!(side.handle.save_wait(), Ok((0, 0))),
                }
            }
            _ => return false,
        }
        self.counts.calls += 1;
        true
    }

    /// One of the handles begins to save what the other one saves now.
    fn begin(&mut self, twin: bool, params: bool, to: To, held: bool) {
        let (side, other) = match twin {
            true => (&self.twin, &self.plain),
            false => (&self.plain, &self.twin),
        };
        let (goes_on, caller) = (AtomicBool::new(!held), current().id());
        let taken = Rc::new(Taken { bytes: Mutex::default(), to, goes_on, caller });
        let folder = Folder::new();
        let path = c_path(&folder.join("state"));
        let data = user_data(&*taken);
        let args = adamw_save_args { params: params.into(), ..save_args() };
        let args = match to {
            To::Function | To::Failing => {
                adamw_save_args { write: Some(write), write_data: data, ..args }
            }
            To::File | To::Cancelled => adamw_save_args {
                path: path.as_ptr(),
                progress: Some(progress),
                progress_data: data,
                ..args
            },
            To::Nowhere => args,
        };
        let last = self.saves.0[usize::from(twin)].as_mut();
        let untold = last.filter(|last| last.fails && !last.is_told);
        self.go_on.0.push(Rc::clone(&taken));
        let begun = side.handle.save_begin(&args);
        let is_good = self.model.can_save() && untold.is_none() && to != To::Nowhere;
        assert_eq!(begun.is_ok(), is_good, "{begun:?}");
        if let (Err(failure), Some(last)) = (&begun, untold)
            && to != To::Nowhere
        {
            assert_eq!(failure.status, Status::Callback);
            last.is_told = true;
        }
        if is_good {
            let expected = other.handle.try_saved(params).unwrap();
            // Where there is nothing to save, there is no progress.
            let fails = to == To::Failing || to == To::Cancelled && self.model.live().count() > 0;
            let begun = Begun { taken, folder, expected, fails, is_told: false };
            if let Some(last) = self.saves.0[usize::from(twin)].replace(begun) {
                last.assert_whole();
            }
            self.counts.begun += 1;
        }
    }
}
