//! Files that are damaged, cut off, hostile or another handle's: an error, and nothing has changed.

use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::{Folder, crc32, load_options, sealed, with_header};
use crate::common::handle::{Handle, Param, config};
use crate::common::random::Random;
use adamw::ffi::*;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype as Element;

/// A handle with two parameters that have taken three steps.
fn trained(config: &adamw_config, names: [&str; 2], params: &[Array; 2]) -> Handle {
    let handle = Handle::new(config);
    let mut random = Random::new(3);
    let numbers = [0, 1].map(|i| handle.add_array(names[i], &params[i]));
    for _ in 0..3 {
        let grads = params.each_ref().map(|p| Array::ordinary(p.dtype(), p.len(), &mut random));
        numbers.iter().zip(&grads).for_each(|(number, grad)| handle.set_grad(*number, grad));
        handle.step();
        handle.clear_grad(ADAMW_CLEAR_FORGET);
    }
    handle
}

fn arrays() -> [Array; 2] {
    let mut random = Random::new(1);
    [5, 3].map(|n| Array::ordinary(Dtype::F32, n, &mut random))
}

/// What is saved, and a handle for it that has taken steps of its own.
struct World {
    bytes: Vec<u8>,
    handle: Handle,
    before: Vec<u8>,
    _params: [Array; 2],
}

impl World {
    fn new() -> World {
        let params = arrays();
        let bytes = trained(&config(), ["w", "b"], &params).saved(true);
        let params = arrays();
        let handle = trained(&config(), ["w", "b"], &params);
        let before = handle.saved(true);
        World { bytes, handle, before, _params: params }
    }

    /// That a load fails so, and changes nothing.
    #[track_caller]
    fn refuses(&self, bytes: &[u8], status: Status, text: &str) {
        let failure = self.handle.load_bytes(bytes, &load_options()).expect_err(text);
        assert_eq!(failure.status, status, "{}", failure.text);
        assert!(failure.text.contains(text), "{:?} lacks {text:?}", failure.text);
        assert_eq!(self.handle.saved(true), self.before);
    }
}

fn header_length(bytes: &[u8]) -> usize {
    8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize
}

#[test]
fn the_safetensors_crate_reads_what_is_saved() {
    let World { bytes, .. } = World::new();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut names = file.names();
    names.sort();
    let expected = [
        "param.b",
        "param.w",
        "param_groups.b.lr",
        "param_groups.w.lr",
        "state.b.beta1_power",
        "state.b.beta2_power",
        "state.b.exp_avg",
        "state.b.exp_avg_sq",
        "state.b.step",
        "state.w.beta1_power",
        "state.w.beta2_power",
        "state.w.exp_avg",
        "state.w.exp_avg_sq",
        "state.w.step",
    ];
    assert_eq!(names, expected);
    let step = file.tensor("state.w.step").unwrap();
    assert_eq!(
        (step.dtype(), step.shape(), step.data()),
        (Element::U64, &[][..], &[3, 0, 0, 0, 0, 0, 0, 0][..])
    );
    let moment = file.tensor("state.w.exp_avg").unwrap();
    assert_eq!((moment.dtype(), moment.shape()), (Element::F32, &[5][..]));
    let power = file.tensor("state.w.beta1_power").unwrap();
    assert_eq!(power.data(), (0.9f64 * 0.9 * 0.9).to_le_bytes());
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let texts = metadata.metadata().as_ref().unwrap();
    assert_eq!(texts["state"], "lr=0.001 grad_scale=1.0");
    assert_eq!(texts["param_groups.b"], "dtype=f32 n_elements=3 group=0 decays=1");
    // Each tensor's checksum, in the order of their bytes.
    for (i, name) in metadata.offset_keys().iter().enumerate() {
        let sum = format!("{:08x}", crc32(file.tensor(name).unwrap().data()));
        assert_eq!(texts["crc32"][8 * i..8 * i + 8], sum, "{name}");
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let world = World::new();
    let flips = |at: usize| (0..8).map(move |bit| (at, 1u8 << bit));
    for (at, bit) in (0..world.bytes.len()).flat_map(flips) {
        let mut bytes = world.bytes.clone();
        bytes[at] ^= bit;
        let failure = world.handle.load_bytes(&bytes, &load_options()).unwrap_err();
        let is_version = failure.status == Status::Unsupported && failure.text.contains("format");
        assert!(failure.status == Status::Corrupt || is_version, "{at} {bit} {failure:?}");
    }
    assert_eq!(world.handle.saved(true), world.before);
}

#[test]
fn every_truncation_and_a_tail_are_found() {
    let world = World::new();
    for length in 0..world.bytes.len() {
        let failure = world.handle.load_bytes(&world.bytes[..length], &load_options()).unwrap_err();
        assert_eq!(failure.status, Status::Corrupt, "{length}: {failure:?}");
    }
    world.refuses(&[&world.bytes[..], &[0]].concat(), Status::Corrupt, "before or after");
}

const MOMENT: &str = "\"state.w.exp_avg\":{\"dtype\":\"F32\",\"shape\":[5]";

/// A change to the text of the header, and what the error then says. The header's checksum is that of
/// the changed text: what refuses it is the reading.
const CHANGES: &[(&str, &str, &str)] = &[
    (
        "\"state.w.exp_avg\":",
        "\"state.w.exp_av\":",
        "the checkpoint lacks what the handle has: state.w.exp_avg;",
    ),
    ("\"state.w.step\":", "\"state.v.step\":", "no state of these params: w"),
    ("\"state.b.step\":", "\"state.w.step\":", "\"state.w.step\" is there twice"),
    ("\"param_groups.b\":", "\"param_groups.w\":", "\"param_groups.w\" is there twice"),
    ("\"param_groups.b\":", "\"param_groups.c\":", "no state of these params: b"),
    (
        MOMENT,
        "\"state.w.exp_avg\":{\"dtype\":\"I32\",\"shape\":[5]",
        "w.exp_avg is F32 (saved: I32)",
    ),
    (
        MOMENT,
        "\"state.w.exp_avg\":{\"dtype\":\"U8\",\"shape\":[20]",
        "w.exp_avg is F32 (saved: U8)",
    ),
    (MOMENT, "\"state.w.exp_avg\":{\"dtype\":\"F31\",\"shape\":[5]", "unknown type"),
    (MOMENT, "\"state.w.exp_avg\":{\"dtype\":\"F32\",\"shape\":[6]", "not what its shape takes"),
    (MOMENT, "\"state.w.exp_avg\":{\"dtype\":\"F32\"", "lacks its type, its shape"),
    (MOMENT, "\"state.w.exp_avg\":{\"dtype\":\"F32\",\"shape\":[5],\"shape\":[5]", "twice"),
    (MOMENT, "\"state.w.exp_avg\":{\"type\":\"F32\",\"shape\":[5]", "unknown property"),
    ("\"shape\":[5]", "\"shape\":[5.0]", "not end with ]"),
    ("\"shape\":[5]", "\"shape\":[-5]", "digits alone"),
    ("\"shape\":[5]", "\"shape\":[4294967296,4294967296]", "too many elements"),
    ("\"shape\":[5]", "\"shape\":[2305843009213693952]", "too many elements"),
    ("\"shape\":[5]", "\"shape\":[18446744073709551616]", "64 bits"),
    ("\"data_offsets\":[0,8]", "\"data_offsets\":[8,8]", "not what its shape takes"),
    ("\"data_offsets\":[0,8]", "\"data_offsets\":[8,0]", "not what its shape takes"),
    ("\"data_offsets\":[0,8]", "\"data_offsets\":[8,16]", "overlap, or leave a hole"),
    ("\"data_offsets\":[0,8]", "\"data_offsets\":[0]", "fewer than two"),
    ("\"data_offsets\":[0,8]", "\"data_offsets\":[0,8,16]", "more than two"),
    ("\"optimizer\":", "\"optimiser\":", "\"optimizer\" is missing"),
    ("\"state\":\"lr=0.001", "\"state\":\"lr=NaN", "\"state\" is missing or not"),
    ("\"state\":\"lr=0.001", "\"state\":\"lr=-0.001", "\"state\" is missing or not"),
    ("grad_scale=1.0", "grad_scale=0.0", "\"state\" is missing or not"),
    ("grad_scale=1.0", "", "\"state\" is missing or not"),
    ("n_elements=5", "n_elements=6", "w.n_elements is 5 (saved: 6)"),
    ("n_elements=5", "n_elements=18446744073709551615", "w.n_elements"),
    ("n_elements=5", "n_elements=5 first_element=18446744073709551615", "w.exp_avg"),
    ("n_elements=5", "n_elements=", "no state of these params: w"),
    ("amsgrad=0", "amsgrad=1", "settings than the checkpoint: optimizer.amsgrad is 0 (saved: 1)"),
    ("beta1=0.9 beta2=0.999", "beta1=0.8 beta2=0.9", "0.beta1 is 0.9 (saved: 0.8), groups.0.beta2"),
    (
        "\"groups.0\":",
        "\"groups.1\":",
        "groups.0 (the checkpoint has none), groups.1 (the handle has none)",
    ),
    ("\"state\":", "\"schedule\":\"kind=Noam\",\"state\":", "schedule (the handle has none)"),
    ("\"crc32\":\"", "\"crc32\":\"0", "\"crc32\" is missing or not"),
    ("\"}", "\"},\"__metadata__\":{\"x\":\"y\"}", "metadata is there twice"),
    ("}}", "}}{", "text behind"),
    ("{\"__", " {\"__", "starts differently"),
    (
        "adamw_checkpoint\":\"1",
        "adamw_checkpoint\":\"3",
        "format 3, this version of the library reads 1 and 2",
    ),
    ("adamw_checkpoint\":\"1", "adamw_checkpoint\":\"2", "\"name\" is missing or not"),
];

#[test]
fn headers_that_say_something_else_are_refused_with_its_name() {
    let world = World::new();
    for (from, to, text) in CHANGES {
        let bytes = with_header(&world.bytes, |header| {
            let at = if *from == "}}" { header.rfind(from) } else { header.find(from) };
            let at = at.unwrap_or_else(|| panic!("{from} is not in {header}"));
            format!("{}{to}{}", &header[..at], &header[at + from.len()..])
        });
        let failure = world.handle.load_bytes(&bytes, &load_options()).expect_err(to);
        assert!(failure.text.contains(text), "{to}: {:?} lacks {text:?}", failure.text);
        let expected = [Status::Corrupt, Status::Mismatch, Status::Unsupported];
        assert!(expected.contains(&failure.status), "{to}: {failure:?}");
        assert_eq!(world.handle.saved(true), world.before, "{to}");
    }
}

/// The same file with other bytes in a tensor, and the checksums that belong to them.
pub fn with_tensor(bytes: &[u8], name: &str, value: &[u8]) -> Vec<u8> {
    let (start, metadata) = (header_length(bytes), SafeTensors::read_metadata(bytes).unwrap().1);
    let info = metadata.info(name).unwrap();
    let mut tensors = bytes[start..].to_vec();
    tensors[info.data_offsets.0..info.data_offsets.1].copy_from_slice(value);
    let place = 8 * metadata.offset_keys().iter().position(|key| key == name).unwrap();
    let mut text = String::from_utf8(bytes[8..start].to_vec()).unwrap();
    let first = text.find("\"crc32\":\"").unwrap() + 9 + place;
    text.replace_range(first..first + 8, &format!("{:08x}", crc32(value)));
    sealed(text, &tensors)
}

#[test]
fn what_a_power_cannot_be_is_refused() {
    let world = World::new();
    for name in ["state.w.beta1_power", "state.b.beta2_power"] {
        for value in [f64::NAN, -1.0, 1.5, f64::INFINITY] {
            let bytes = with_tensor(&world.bytes, name, &value.to_le_bytes());
            let param = name.split('.').nth(1).unwrap();
            world.refuses(&bytes, Status::Corrupt, &format!("\"{param}\" is missing or not what"));
        }
    }
    let bytes = with_tensor(&world.bytes, "state.w.beta1_power", &0.5f64.to_le_bytes());
    world.handle.load_bytes(&bytes, &load_options()).unwrap();
}

#[test]
fn absurd_lengths_are_refused() {
    let world = World::new();
    for length in [1, 100_000_001, 1 << 40, u64::MAX] {
        let mut bytes = world.bytes.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        let failure = world.handle.load_bytes(&bytes, &load_options()).unwrap_err();
        assert_eq!(failure.status, Status::Corrupt, "{length}: {failure:?}");
    }
    world.refuses(&[], Status::Corrupt, "it is empty");
    world.refuses(&[0; 8], Status::Corrupt, "it starts with zeros");
}

/// What the handle and its checkpoint differ in, and what the error then lists.
#[test]
fn another_handles_checkpoint_is_refused_with_the_names_that_differ() {
    let world = World::new();
    let saved_by = |edit: &dyn Fn(&mut adamw_config), names| {
        let mut config = config();
        edit(&mut config);
        let params = arrays();
        trained(&config, names, &params).saved(true)
    };
    let names = ["w", "b"];
    let mismatch = |bytes: Vec<u8>, text: &str| world.refuses(&bytes, Status::Mismatch, text);
    mismatch(saved_by(&|_| (), ["w", "c"]), "no state of these params: b");
    mismatch(saved_by(&|_| (), ["x", "y"]), "no state of these params: w, b");
    mismatch(saved_by(&|c| c.amsgrad = 1, names), "optimizer.amsgrad");
    mismatch(saved_by(&|c| c.maximize = 1, names), "optimizer.maximize");
    mismatch(saved_by(&|c| c.seed = 1, names), "optimizer.seed");
    mismatch(saved_by(&|c| c.beta2 = 0.99, names), "groups.0.beta2");
    mismatch(saved_by(&|c| c.eps = 1e-9, names), "groups.0.eps");
    mismatch(saved_by(&|c| c.weight_decay = 0.1, names), "groups.0.weight_decay");
    mismatch(
        saved_by(&|c| c.independent_weight_decay = 1, names),
        "groups.0.independent_weight_decay",
    );
    mismatch(saved_by(&|c| (c.clip, c.clip_norm) = (ADAMW_CLIP_NORM, 1.0), names), "groups.0.clip");
    mismatch(saved_by(&|c| c.moments = ADAMW_MOMENTS_BF16, names), "groups.0.moments");
    // The learning rate is not a setting but what it had come to.
    let config = adamw_config { lr: 0.5, ..config() };
    let params = arrays();
    let handle = trained(&config, names, &params);
    world.handle.load_bytes(&handle.saved(false), &load_options()).unwrap();
    assert_eq!(world.handle.lr(), 0.5);
}

#[test]
fn a_handle_without_a_parameter_refuses_it_and_a_subset_does_not() {
    let world = World::new();
    let handle = Handle::new(&config());
    let [w, _] = arrays();
    handle.add_array("w", &w);
    let failure = handle.load_bytes(&world.bytes, &load_options()).unwrap_err();
    assert_eq!(failure.status, Status::Mismatch);
    assert!(
        failure.text.contains("params that the handle lacks: b; ADAMW_LOAD_SUBSET"),
        "{}",
        failure.text
    );
    let subset = adamw_load_options { scope: ADAMW_LOAD_SUBSET, params: 1, ..load_options() };
    handle.load_bytes(&world.bytes, &subset).unwrap();
    assert_eq!(handle.info(0).step, 3);
    let file = SafeTensors::deserialize(&world.bytes).unwrap();
    let bits: Vec<u8> = (0..5).flat_map(|i| (w.bits(i) as u32).to_le_bytes()).collect();
    assert_eq!(bits, file.tensor("param.w").unwrap().data());
}

#[test]
fn what_is_no_file_is_refused() {
    let (world, folder) = (World::new(), Folder::new());
    let load = |name: &str| world.handle.load(&folder.join(name), &load_options()).unwrap_err();
    let missing = load("missing");
    assert_eq!(missing.status, Status::Io);
    assert!(missing.text.ends_with("open failed: No such file or directory"), "{}", missing.text);
    assert_eq!(load(".").status, Status::Io);
    let fifo = crate::common::checkpoint::c_path(&folder.join("fifo"));
    // SAFETY: the path is NUL-terminated.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    assert!(load("fifo").text.ends_with("is not a regular file, as a checkpoint is"));
}

#[test]
fn accumulated_gradients_are_not_lost_in_silence() {
    let handle = Handle::new(&config());
    let (param, grad) = (Array::of(Dtype::F32, &[1.0]), Array::of(Dtype::F32, &[1.0]));
    let number = handle.add(&Param::new("w", &param));
    handle.accumulate_grad(number, &grad).unwrap();
    let folder = Folder::new();
    let failure = handle.save(&folder.join("x")).unwrap_err();
    assert_eq!(failure.status, Status::InvalidArgument);
    assert!(failure.text.contains("param \"w\" has accumulated gradients"), "{}", failure.text);
    assert!(folder.names().is_empty());
    handle.step();
    handle.save(&folder.join("x")).unwrap();
}
