//! What a test asks the driver to play.

use super::code::Code;

/// The settings' names; the environment has them in capitals behind `STANDIN_`.
pub const NAMES: [&str; 13] = [
    "no_device",
    "stub",
    "no_pool",
    "max_ptx",
    "oom_at",
    "fail",
    "lazy",
    "shuffle",
    "global_races",
    "echo",
    "blocks",
    "ptx",
    "machine_code",
];

/// An error that a call is to return.
#[derive(Clone, Debug)]
struct Planned {
    /// `*` for any.
    entry: String,
    /// How many more calls of it; 1 is the next.
    calls: u64,
    code: Code,
}

/// What to play.
pub struct Settings {
    /// Whether the environment was read.
    pub environment_read: bool,
    /// `cuInit` finds no device.
    pub no_device: bool,
    /// `cuInit` says that this is a stub to link with.
    pub stub: bool,
    /// The device has no pool of memory.
    pub no_pool: bool,
    /// The newest PTX that loads: 74 for 7.4.
    pub max_ptx: Option<u32>,
    /// This allocation from now on fails (1 is the next).
    pub oom_at: u64,
    /// Work waits until somebody waits for it.
    pub lazy: bool,
    /// The order of independent work: the seed, which changes with each choice.
    pub shuffle: Option<u64>,
    /// Whether to look for races between blocks.
    pub global_races: bool,
    /// Whether to write the log to the standard error too.
    pub echo: bool,
    /// How many blocks the device runs at once, on one multiprocessor.
    pub blocks: Option<i32>,
    /// A file that is loaded in place of any module.
    pub ptx: Option<String>,
    /// A file with machine code, and one with the PTX that is loaded in its place.
    pub machine_code: Option<(String, String)>,
    planned: Vec<Planned>,
}

impl Settings {
    pub const fn new() -> Settings {
        Settings {
            environment_read: false,
            no_device: false,
            stub: false,
            no_pool: false,
            max_ptx: None,
            oom_at: 0,
            lazy: false,
            shuffle: None,
            global_races: true,
            echo: false,
            blocks: None,
            ptx: None,
            machine_code: None,
            planned: Vec::new(),
        }
    }

    /// Reads the environment, once.
    pub fn read_environment(&mut self) {
        if std::mem::replace(&mut self.environment_read, true) {
            return;
        }
        for name in NAMES {
            if let Ok(value) = std::env::var(format!("STANDIN_{}", name.to_uppercase())) {
                // What does not parse is as if it were not there.
                let _ = self.set(name, &value);
            }
        }
    }

    /// Sets one; an empty value takes it back.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Code> {
        let number = || value.parse::<u64>().map_err(|_| Code::INVALID_VALUE);
        let flag = || match value {
            "" | "0" => Ok(false),
            "1" => Ok(true),
            _ => Err(Code::INVALID_VALUE),
        };
        match name {
            "no_device" => self.no_device = flag()?,
            "stub" => self.stub = flag()?,
            "no_pool" => self.no_pool = flag()?,
            "max_ptx" if value.is_empty() => self.max_ptx = None,
            "max_ptx" => self.max_ptx = Some(version(value).ok_or(Code::INVALID_VALUE)?),
            "oom_at" if value.is_empty() => self.oom_at = 0,
            "oom_at" => self.oom_at = number()?,
            "lazy" => self.lazy = flag()?,
            "shuffle" if value.is_empty() => self.shuffle = None,
            "shuffle" => self.shuffle = Some(number()?),
            "global_races" => self.global_races = flag()?,
            "echo" => self.echo = flag()?,
            "blocks" if value.is_empty() => self.blocks = None,
            "blocks" => self.blocks = Some(number()?.clamp(1, 1 << 20) as i32),
            "ptx" => self.ptx = Some(value.to_owned()).filter(|path| !path.is_empty()),
            "machine_code" if value.is_empty() => self.machine_code = None,
            "machine_code" => {
                let (image, ptx) = value.split_once('=').ok_or(Code::INVALID_VALUE)?;
                self.machine_code = Some((image.to_owned(), ptx.to_owned()));
            }
            "fail" if value.is_empty() => self.planned.clear(),
            "fail" => {
                let planned: Option<Vec<_>> = value.split(';').map(plan).collect();
                self.planned.extend(planned.ok_or(Code::INVALID_VALUE)?);
            }
            _ => return Err(Code::NOT_FOUND),
        }
        Ok(())
    }

    /// Counts a call; the error that is planned for it.
    pub fn planned(&mut self, entry: &str) -> Result<(), Code> {
        // These only name errors, and a caller asks them because of one.
        if matches!(entry, "cuGetErrorName" | "cuGetErrorString") {
            return Ok(());
        }
        for planned in &mut self.planned {
            if planned.entry == entry || planned.entry == "*" {
                planned.calls -= 1;
            }
        }
        match self.planned.iter().position(|planned| planned.calls == 0) {
            Some(at) => Err(self.planned.remove(at).code),
            None => Ok(()),
        }
    }

    /// Counts an allocation; whether it is to fail.
    pub fn out_of_memory(&mut self) -> bool {
        let now = self.oom_at == 1;
        self.oom_at = self.oom_at.saturating_sub(1);
        now
    }

    /// One of so many, by the seed; the first without one.
    pub fn choose(&mut self, count: usize) -> usize {
        let Some(seed) = &mut self.shuffle else { return 0 };
        // Vigna's splitmix64.
        *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = *seed;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ mixed >> 31) % count as u64) as usize
    }
}

fn version(text: &str) -> Option<u32> {
    let (major, minor) = text.split_once('.')?;
    Some(10 * major.parse::<u32>().ok()? + minor.parse::<u32>().ok()?)
}

/// `cuMemAlloc_v2:3:2`: the third call from now returns code 2.
fn plan(text: &str) -> Option<Planned> {
    let mut parts = text.split(':');
    let entry = parts.next().filter(|entry| !entry.is_empty())?.to_owned();
    let calls = parts.next()?.parse().ok().filter(|&calls| calls > 0)?;
    let code = Code(parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(Planned { entry, calls, code })
}
