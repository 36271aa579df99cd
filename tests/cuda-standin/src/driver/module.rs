//! Modules and their functions.
#![allow(non_snake_case)]

use super::call;
use super::code::Code;
use super::raw::{Out, Text, elements};
use super::settings::Settings;
use super::state::{Driver, Handle};
use crate::machine::RangeKind;
use crate::ptx::{self, Module};
use std::borrow::Cow;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

pub(crate) struct LoadedModule {
    pub module: Module,
    text: Box<str>,
    /// What its variables began with.
    initial: Vec<Box<[u64]>>,
    /// Until it is unloaded; work that was captured may outlive that.
    pub loaded: AtomicBool,
}

impl LoadedModule {
    fn variables(&self) -> Vec<Box<[u64]>> {
        self.module.variables.iter().map(|variable| variable.memory.clone()).collect()
    }
}

pub(crate) struct Function {
    pub module: Handle,
    pub kernel: usize,
    /// The most shared bytes that a launch may add.
    pub most_dynamic_shared: usize,
}

/// The shared bytes that a launch may use without asking.
pub const SHARED_LIMIT: usize = 48 << 10;
/// The compute capability, as a target's number.
const DEVICE_TARGET: u32 = 90;

/// Where a module's text is, or machine code.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Image(*const c_void);

/// The first bytes of ELF and of a fat binary; what they begin is machine code.
const ELF: u8 = 0x7F;
const FAT_BINARY: u8 = 0x50;

impl Image {
    /// The text, or the one that the settings have for machine code.
    fn text(&self, settings: &Settings) -> Result<Cow<'_, str>, Code> {
        match elements(self.0.cast::<u8>(), 1)?[0] {
            ELF => Err(Code::NO_BINARY_FOR_GPU),
            FAT_BINARY => match &settings.machine_code {
                None => Err(Code::NO_BINARY_FOR_GPU),
                Some((known, _)) if self.fat_binary()? != read(known)? => Err(Code::INVALID_IMAGE),
                Some((_, ptx)) => match String::from_utf8(read(ptx)?) {
                    Ok(text) => Ok(text.into()),
                    Err(_) => Err(Code::INVALID_PTX),
                },
            },
            _ => {
                // SAFETY: an image that is no machine code is a text that ends.
                let text = unsafe { std::ffi::CStr::from_ptr(self.0.cast()) };
                text.to_str().map(Cow::from).map_err(|_| Code::INVALID_PTX)
            }
        }
    }

    /// The bytes of a fat binary, whose header says how long it and the rest are.
    fn fat_binary(&self) -> Result<Vec<u8>, Code> {
        if !self.0.addr().is_multiple_of(align_of::<u64>()) {
            return Err(Code::INVALID_IMAGE);
        }
        let header = elements(self.0.cast::<u64>(), 2)?;
        elements(self.0.cast(), (header[0] >> 48) as usize + header[1] as usize)
    }
}

fn read(path: &str) -> Result<Vec<u8>, Code> {
    std::fs::read(path).map_err(|_| Code::INVALID_VALUE)
}

impl From<&std::ffi::CStr> for Image {
    fn from(text: &std::ffi::CStr) -> Image {
        Image(text.as_ptr().cast())
    }
}

/// What was last unloaded: decoding a large text takes longer than most tests run it.
static SPARE: Mutex<Option<LoadedModule>> = Mutex::new(None);

fn decoded(text: &str) -> Result<Module, ptx::ParseError> {
    let spare = SPARE.lock().ok().and_then(|mut spare| spare.take_if(|spare| *spare.text == *text));
    spare.map_or_else(|| ptx::parse(text), |spare| Ok(spare.module))
}

impl Driver {
    /// Loads a text; what is wrong with it is in `trouble` too.
    fn load(&mut self, image: Image, module: &Out<usize>) -> Result<(), Code> {
        self.need_no_capture()?;
        module.check()?;
        let refuse = |driver: &mut Driver, code, text| {
            driver.trouble = text;
            Err(code)
        };
        let other = self.settings.ptx.as_ref().map(std::fs::read_to_string);
        let text = match other {
            None => image.text(&self.settings)?,
            Some(Ok(text)) => text.into(),
            Some(Err(_)) => return Err(Code::INVALID_VALUE),
        };
        let parsed = match decoded(&text) {
            Ok(parsed) => parsed,
            Err(error) => return refuse(self, Code::INVALID_PTX, error.to_string()),
        };
        if self.settings.max_ptx.is_some_and(|most| parsed.version > most) {
            let text = format!("PTX version {}, newer than the driver", parsed.version);
            return refuse(self, Code::UNSUPPORTED_PTX_VERSION, text);
        }
        if parsed.target > DEVICE_TARGET {
            let text = format!("PTX for sm_{} on sm_{DEVICE_TARGET}", parsed.target);
            return refuse(self, Code::INVALID_PTX, text);
        }
        for variable in &parsed.variables {
            let kind = if variable.writable { RangeKind::Variable } else { RangeKind::Constant };
            self.memory.register(variable.memory.as_ptr() as u64, variable.bytes as u64, kind);
        }
        let handle = self.handle();
        let mut loaded = LoadedModule {
            module: parsed,
            text: text.into(),
            initial: Vec::new(),
            loaded: AtomicBool::new(true),
        };
        loaded.initial = loaded.variables();
        self.modules.insert(handle, Arc::new(loaded));
        module.set(handle)
    }

    /// A function and its module.
    pub fn function(&self, function: Handle) -> Result<(&Function, &Arc<LoadedModule>), Code> {
        let function = self.functions.get(&function).ok_or(Code::INVALID_HANDLE)?;
        let module = self.modules.get(&function.module).ok_or(Code::INVALID_HANDLE)?;
        Ok((function, module))
    }
}

/// Loads a module.
#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoadData(module: Out<usize>, image: Image) -> c_int {
    call("cuModuleLoadData", format_args!(""), |driver| driver.load(image, &module))
}

/// The options for the place and the length of a log of errors.
const ERROR_LOG: c_uint = 5;
const ERROR_LOG_BYTES: c_uint = 6;

/// Loads a module; of the options, those for the log of errors have an effect.
#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoadDataEx(
    module: Out<usize>,
    image: Image,
    option_count: c_uint,
    options: *const c_uint,
    values: *mut *mut c_void,
) -> c_int {
    call("cuModuleLoadDataEx", format_args!("option_count={option_count}"), |driver| {
        let names = elements(options, option_count as usize)?;
        let given = elements(values.cast_const(), option_count as usize)?;
        let position = |option| names.iter().position(|&name| name == option);
        let result = driver.load(image, &module);
        if let (Some(log), Some(bytes)) = (position(ERROR_LOG), position(ERROR_LOG_BYTES)) {
            let capacity = given[bytes] as usize & u32::MAX as usize;
            let text = if result.is_err() { driver.trouble.as_str() } else { "" };
            let written = text.len().min(capacity.saturating_sub(1));
            Out::from(given[log].cast::<c_char>()).set_text(text, capacity);
            // The length's value becomes the length of what was written.
            Out::from(values.wrapping_add(bytes)).set(written as *mut c_void)?;
        }
        result
    })
}

/// Unloads a module, its work done.
#[unsafe(no_mangle)]
pub extern "C" fn cuModuleUnload(module: usize) -> c_int {
    call("cuModuleUnload", format_args!("module={module:#x}"), |driver| {
        driver.need_no_capture()?;
        if !driver.modules.contains_key(&module) {
            return Err(Code::INVALID_HANDLE);
        }
        let waited = driver.wait_for_all();
        if let Some(found) = driver.modules.remove(&module) {
            found.loaded.store(false, Ordering::Relaxed);
            for variable in &found.module.variables {
                let start = variable.memory.as_ptr() as u64;
                driver.memory.remove(start, &[RangeKind::Variable, RangeKind::Constant]);
            }
            // Work that was captured may have it still.
            if let (Some(found), Ok(mut spare)) = (Arc::into_inner(found), SPARE.lock())
                && found.variables() == found.initial
            {
                *spare = Some(found);
            }
        }
        driver.functions.retain(|_, function| function.module != module);
        waited
    })
}

/// A kernel of a module.
#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetFunction(function: Out<usize>, module: usize, name: Text) -> c_int {
    let arguments = format_args!("module={module:#x}, name={name:?}");
    call("cuModuleGetFunction", arguments, |driver| {
        driver.need_context()?;
        function.check()?;
        let found = driver.modules.get(&module).ok_or(Code::INVALID_HANDLE)?;
        let name = name.get()?;
        let mut kernels = found.module.kernels.iter();
        let kernel = kernels.position(|kernel| kernel.name == name).ok_or(Code::NOT_FOUND)?;
        let most = SHARED_LIMIT.saturating_sub(found.module.kernels[kernel].shared);
        let mut known = driver.functions.iter();
        let known = known.find(|(_, other)| other.module == module && other.kernel == kernel);
        if let Some((&handle, _)) = known {
            return function.set(handle);
        }
        let handle = driver.handle();
        driver.functions.insert(handle, Function { module, kernel, most_dynamic_shared: most });
        function.set(handle)
    })
}
