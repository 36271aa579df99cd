//! A value that knows whether somebody may have changed it.
#![forbid(unsafe_code)]

use core::mem::take;
use core::ops::{Deref, DerefMut};

/// Who writes what is inside marks it as changed, and need not know who asks.
#[derive(Default)]
pub struct Watched<T> {
    value: T,
    changed: bool,
}

impl<T> Watched<T> {
    pub fn new(value: T) -> Watched<T> {
        Watched { value, changed: false }
    }

    /// For writing what those who ask do not mean.
    pub fn unmarked(&mut self) -> &mut T {
        &mut self.value
    }

    /// Whether it may have changed since this was asked last.
    pub fn has_changed(&mut self) -> bool {
        take(&mut self.changed)
    }
}

impl<T> Deref for Watched<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Watched<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.changed = true;
        &mut self.value
    }
}
