//! `include/adamw.h` is what the source gives now, documents every function, and describes structs
//! as the library has them. With `ADAMW_UPDATE_HEADER=1` it is written anew.

use crate::declared::functions;
use adamw::ffi::*;
use core::mem::offset_of;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

fn path(inside: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), inside].iter().collect()
}

fn generated() -> String {
    let numbers = [
        ("MAJOR", env!("CARGO_PKG_VERSION_MAJOR")),
        ("MINOR", env!("CARGO_PKG_VERSION_MINOR")),
        ("PATCH", env!("CARGO_PKG_VERSION_PATCH")),
    ];
    let version = numbers.map(|(name, number)| format!("#define ADAMW_VERSION_{name} {number}\n"));
    let conventions = std::fs::read_to_string(path("src/ffi/conventions.txt")).unwrap();
    crate::generated::header(&path(""), conventions.trim_end(), &version.concat())
}

/// The number and both forms of the first line in which two texts differ.
fn first_difference<'a>(a: &'a str, b: &'a str) -> Option<(usize, &'a str, &'a str)> {
    let (mut a, mut b) = (a.lines(), b.lines());
    let end = "(end of file)";
    (1..)
        .map(|number| (number, a.next(), b.next()))
        .take_while(|(_, a, b)| a.is_some() || b.is_some())
        .map(|(number, a, b)| (number, a.unwrap_or(end), b.unwrap_or(end)))
        .find(|(_, a, b)| a != b)
}

#[test]
fn the_header_is_what_the_source_gives() {
    let generated = generated();
    if std::env::var_os("ADAMW_UPDATE_HEADER").is_some_and(|value| value == "1") {
        std::fs::create_dir_all(path("include")).unwrap();
        std::fs::write(path("include/adamw.h"), &generated).unwrap();
    }
    let committed = std::fs::read_to_string(path("include/adamw.h")).unwrap();
    let difference = first_difference(&committed, &generated);
    assert_eq!(difference, None, "line, committed, generated; `make header` writes it anew");
}

#[test]
fn no_line_of_the_headers_is_wider_than_100() {
    let read = |file: &str| std::fs::read_to_string(path("include").join(file)).unwrap();
    let cpp = ["adamw.hpp", "adamw_mpi.h", "adamw/libtorch.hpp"].map(|file| (file, read(file)));
    for (file, header) in [("adamw.h", generated())].into_iter().chain(cpp) {
        let lines = (1..).zip(header.lines());
        let wide: Vec<_> = lines.filter(|(_, line)| line.chars().count() > 100).collect();
        assert!(wide.is_empty(), "{file}: {wide:?}");
    }
}

#[test]
fn every_macro_has_the_prefix() {
    let header = generated();
    let macros = header.lines().filter_map(|line| line.strip_prefix("#define "));
    let foreign: Vec<_> = macros.filter(|name| !name.starts_with("ADAMW_")).collect();
    assert!(foreign.is_empty(), "these would collide with a host's own names: {foreign:?}");
}

#[test]
fn every_type_has_the_prefix() {
    let header = generated();
    let types = header.lines().filter(|line| line.starts_with("typedef "));
    let foreign: Vec<_> = types.filter(|line| !line.contains("adamw_")).collect();
    assert!(foreign.is_empty(), "these would collide with a host's own names: {foreign:?}");
}

#[test]
fn every_constant_stands_behind_its_type() {
    let header = generated();
    let lines = header.lines().filter(|line| !line.trim_start().starts_with("//"));
    let lines: Vec<_> = lines.skip_while(|line| !line.contains("ADAMW_VERSION_PATCH")).collect();
    let mut constants = 0;
    for pair in lines.windows(2).filter(|pair| pair[1].starts_with("#define ADAMW_")) {
        let is_behind = pair[0].starts_with("typedef uint") || pair[0].starts_with("typedef int");
        assert!(is_behind || pair[0].starts_with("#define ADAMW_"), "{pair:?}");
        constants += 1;
    }
    assert!(constants > 80, "{constants}");
}

#[test]
fn functions_stand_in_the_order_of_their_sections() {
    let header = generated();
    let place = |text: &str| header.find(text).unwrap_or_else(|| panic!("{text} is missing"));
    let order = [
        "\nconst char *adamw_last_error(",
        "\nadamw_status adamw_create(",
        "\nadamw_status adamw_add_param(",
        "\nadamw_status adamw_set_grad(",
        "\nadamw_status adamw_step(",
        "\nadamw_status adamw_set_lr(",
        "\nadamw_status adamw_set_lr_schedule(",
        "\nadamw_status adamw_set_loss_scaler(",
        "\nadamw_status adamw_set_sparse_grad(",
        "\nadamw_status adamw_get_state(",
        "\nadamw_status adamw_save(",
        "\nadamw_status adamw_set_stream(",
    ];
    assert!(order.map(place).is_sorted(), "{:?}", order.map(place));
}

#[test]
fn a_changed_line_and_a_missing_one_are_differences() {
    assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
    assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some((2, "b", "c")));
    assert_eq!(first_difference("a\n", "a\nc\n"), Some((2, "(end of file)", "c")));
}

#[test]
fn every_function_is_documented() {
    let header = generated();
    let functions = functions(&header);
    assert!(functions.iter().any(|(name, _)| *name == "adamw_step"), "{functions:?}");
    let silent: Vec<_> = functions.iter().filter(|(_, documented)| !documented).collect();
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn every_function_has_a_method_in_cpp() {
    let cpp = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/include/adamw.hpp"));
    let cpp = cpp.unwrap();
    let header = generated();
    let calls =
        |name: &str| [format!("{name}("), format!("({name},")].iter().any(|c| cpp.contains(c));
    let missing: Vec<_> = functions(&header).into_iter().filter(|(name, _)| !calls(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Where the fields of each struct end.
static ENDS: Mutex<BTreeMap<&str, Vec<usize>>> = Mutex::new(BTreeMap::new());

/// Each field begins where the one before it ends, from the first to the last byte of the struct.
macro_rules! assert_without_holes {
    ($struct:ident { $($field:ident: $type:ty),* $(,)? }) => {
        let mut end = 0;
        $(
            assert_eq!(offset_of!($struct, $field), end, stringify!($struct.$field));
            end += size_of::<$type>();
            ENDS.lock().unwrap().entry(stringify!($struct)).or_default().push(end);
        )*
        assert_eq!(size_of::<$struct>(), end, stringify!($struct));
        // A field that is added to the struct and not to this list does not compile.
        let _ = |value: $struct| { let $struct { $($field),* } = value; $(let _: $type = $field;)* };
    };
}

#[test]
fn structs_have_no_holes_and_the_fields_that_were_promised_and_are_taken_up_to_the_end_of_each() {
    fields();
    let ends = ENDS.lock().unwrap();
    let mut structs = crate::structs::Structs::new();
    for (name, ends) in ends.iter().filter(|(name, _)| !WITHOUT_SIZE.contains(name)) {
        structs.assert_taken_up_to(name, ends);
    }
}

/// Structs of which an array is given, or that the library alone writes.
const WITHOUT_SIZE: [&str; 5] =
    ["adamw_param_grad", "adamw_entry", "adamw_tensor", "adamw_device", "adamw_data_type"];

fn fields() {
    type Text = *const core::ffi::c_char;
    type Data = *mut core::ffi::c_void;
    type Tensor = *const adamw_tensor;
    type Number = *const f32;
    type Numbers = *const u32;
    assert_without_holes!(adamw_config {
        struct_size: usize,
        lr: f64,
        beta1: f64,
        beta2: f64,
        eps: f64,
        weight_decay: f64,
        amsgrad: u32,
        maximize: u32,
        multi_precision: u32,
        num_threads: u32,
        isa: u32,
        nonfinite: u32,
        parallel_for: adamw_parallel_for,
        parallel_for_data: Data,
        clip_norm: f64,
        clip_min: f64,
        clip_max: f64,
        clip: u32,
        clip_scope: u32,
        lazy_mode: u32,
        average_grads: u32,
        lr_ptr: Number,
        beta1_ptr: Number,
        beta2_ptr: Number,
        weight_decay_ptr: Number,
        precision: u32,
        moments: u32,
        seed: u64,
        clear_grads: u32,
        independent_weight_decay: u32,
        bias_correction: u32,
        formula: u32,
        team: *mut Team,
        device_alloc: adamw_device_alloc,
        device_free: adamw_device_free,
        device_memory_data: Data,
        device_memory: u32,
        reserved: u32,
        pinned_bytes: u64,
    });
    assert_without_holes!(adamw_group_config {
        struct_size: usize,
        lr_scale: f64,
        weight_decay: f64,
        beta1: f64,
        beta2: f64,
        eps: f64,
        clip_norm: f64,
        clip_min: f64,
        clip_max: f64,
        clip: u32,
        lazy_mode: u32,
        beta1_ptr: Number,
        beta2_ptr: Number,
        weight_decay_ptr: Number,
        precision: u32,
        moments: u32,
        independent_weight_decay: u32,
        maximize: u32,
        amsgrad: u32,
        bias_correction: u32,
        lr_scale_ptr: Number,
        formula: u32,
        reserved: u32,
    });
    assert_without_holes!(adamw_param_grad { grad: Data, param: u32, reserved: u32 });
    assert_without_holes!(adamw_minimize_args {
        struct_size: usize,
        closure: adamw_closure,
        user_data: Data,
        params: Numbers,
        num_params: usize,
        no_grad: Numbers,
        num_no_grad: usize,
        updated: *mut adamw_param_grad,
        capacity: usize,
    });
    assert_without_holes!(adamw_state_info {
        struct_size: usize,
        data: Data,
        n_elements: u64,
        param: u32,
        buffer: u32,
        dtype: u32,
        is_hosts: u32,
    });
    assert_without_holes!(adamw_memory {
        struct_size: usize,
        master: u64,
        remainder: u64,
        exp_avg: u64,
        exp_avg_sq: u64,
        max_exp_avg_sq: u64,
        total: u64,
    });
    assert_without_holes!(adamw_param_options {
        struct_size: usize,
        lr_scale: f64,
        regularizer_coeff: f64,
        regularizer: u32,
        group: u32,
        frozen: u32,
        no_clip: u32,
    });
    assert_without_holes!(adamw_device_inputs {
        struct_size: usize,
        lr: *const f32,
        grad_scale: *const f32,
        found_inf: *const f32,
    });
    assert_without_holes!(adamw_loss_scaler {
        struct_size: usize,
        scale: f64,
        growth_factor: f64,
        backoff_factor: f64,
        growth_interval: u64,
        backoff_interval: u64,
    });
    assert_without_holes!(adamw_loss_scaler_state {
        struct_size: usize,
        scale: f64,
        good_steps: u64,
        bad_steps: u64,
    });
    assert_without_holes!(adamw_param_config {
        struct_size: usize,
        name: Text,
        param: Tensor,
        master: Tensor,
        exp_avg: Tensor,
        exp_avg_sq: Tensor,
        max_exp_avg_sq: Tensor,
        step: u64,
        group: u32,
        no_clip: u32,
        regularizer_coeff: f64,
        regularizer: u32,
        reserved: u32,
        remainder: Tensor,
        exp_avg_scale: Tensor,
        exp_avg_sq_scale: Tensor,
        max_exp_avg_sq_scale: Tensor,
        first_element: u64,
        whole_elements: u64,
        offload: u32,
        reserved_2: u32,
    });
    assert_without_holes!(adamw_param_info {
        struct_size: usize,
        name: Text,
        n_elements: u64,
        step: u64,
        param: u32,
        group: u32,
        dtype: u32,
        decays: u32,
    });
    assert_without_holes!(adamw_step_info {
        struct_size: usize,
        n_elements: u64,
        n_nonfinite: u64,
        grad_norm: f64,
        measured: u32,
        skipped: u32,
        clip_factor: f64,
        update_norm: f64,
        param_norm: f64,
        seconds: f64,
        has_statistics: u32,
        isa: u32,
        num_threads: u32,
        invalid_inputs: u32,
        n_unchanged: u64,
    });
    assert_without_holes!(adamw_schedule {
        struct_size: usize,
        kind: u32,
        advance: u32,
        lr: f64,
        start_lr: f64,
        end_lr: f64,
        min_lr: f64,
        max_lr: f64,
        gamma: f64,
        power: f64,
        factor: f64,
        start_factor: f64,
        end_factor: f64,
        divide_factor: f64,
        phase_fraction: f64,
        threshold: f64,
        epsilon: f64,
        d_model: u64,
        warmup_steps: u64,
        total_steps: u64,
        decay_steps: u64,
        period: u64,
        period_factor: u64,
        steps_up: u64,
        steps_down: u64,
        boundaries: *const u64,
        n_boundaries: usize,
        values: *const f64,
        n_values: usize,
        schedules: *const *const adamw_schedule,
        n_schedules: usize,
        function: adamw_schedule_function,
        user_data: Data,
        patience: u32,
        cooldown: u32,
        cyclic_mode: u32,
        cycle: u32,
        linear_anneal: u32,
        three_phase: u32,
        maximize_metric: u32,
        threshold_is_absolute: u32,
    });
    assert_without_holes!(adamw_schedule_state {
        struct_size: usize,
        index: u64,
        lr: f64,
        best: f64,
        num_bad: u32,
        cooldown: u32,
    });
    assert_without_holes!(adamw_save_args {
        struct_size: usize,
        path: Text,
        data: Data,
        capacity: usize,
        write: adamw_write,
        write_data: Data,
        progress: adamw_progress,
        progress_data: Data,
        params: u32,
        size_only: u32,
        out_durable: *mut u32,
    });
    assert_without_holes!(adamw_source {
        struct_size: usize,
        path: Text,
        data: *const core::ffi::c_void,
        num_bytes: u64,
        read: adamw_read,
        read_data: Data,
    });
    assert_without_holes!(adamw_load_options {
        struct_size: usize,
        rename: adamw_rename,
        rename_data: Data,
        progress: adamw_progress,
        progress_data: Data,
        scope: u32,
        params: u32,
        convert: u32,
        keep_schedule: u32,
        extend: u32,
        reserved: u32,
    });
    assert_without_holes!(adamw_entry {
        struct_size: usize,
        name: Text,
        text: Text,
        dtype: Text,
        n_elements: u64,
        offset: u64,
        value: f64,
    });
    assert_without_holes!(adamw_capabilities {
        struct_size: usize,
        isas: u32,
        best_isa: u32,
        devices: u32,
        dtypes: u32,
        num_cpus: u32,
        reserved: u32,
    });
}

#[test]
fn a_tensor_is_a_dlpack_tensor() {
    assert_without_holes!(adamw_device { device_type: i32, device_id: i32 });
    assert_without_holes!(adamw_data_type { code: u8, bits: u8, lanes: u16 });
    assert_without_holes!(adamw_tensor {
        data: *mut core::ffi::c_void,
        device: adamw_device,
        ndim: i32,
        dtype: adamw_data_type,
        shape: *mut i64,
        strides: *mut i64,
        byte_offset: u64,
    });
    assert_eq!(size_of::<adamw_tensor>(), 48);
    // The numbers are DLPack's: kDLCPU, kDLCUDA, kDLCUDAHost, kDLROCMHost, kDLCUDAManaged, and
    // kDLInt, kDLUInt, kDLFloat, kDLBfloat.
    let devices = [
        ADAMW_DEVICE_CPU,
        ADAMW_DEVICE_CUDA,
        ADAMW_DEVICE_CUDA_HOST,
        ADAMW_DEVICE_ROCM_HOST,
        ADAMW_DEVICE_CUDA_MANAGED,
    ];
    assert_eq!(devices, [1, 2, 3, 11, 13]);
    let codes = [ADAMW_CODE_INT, ADAMW_CODE_UINT, ADAMW_CODE_FLOAT, ADAMW_CODE_BFLOAT];
    assert_eq!(codes, [0, 1, 2, 4]);
}
