//! Parameters that cannot be added, or not so.

use crate::Refusals;
use crate::common::array::{Array, Dtype};
use crate::common::handle::{Answer, Handle, Param, answer, config};
use crate::common::rows::Rows;
use adamw::ffi::Status::{NotFound, OutOfMemory, Unsupported};
use adamw::ffi::*;
use core::ptr::{null, null_mut};

pub fn refusals(rows: &mut Refusals) {
    names(rows);
    structs(rows);
    state_that_is_given(rows);
    formats(rows);
    numbers(rows);
    places(rows);
}

fn added_as(handle: &Handle, name: *const core::ffi::c_char, array: &Array) -> Answer {
    let mut number = 0;
    // SAFETY: the name is NULL or a text; the array outlives its handle.
    answer(unsafe {
        adamw_add_array(handle.raw(), name, array.data(), 1, array.dtype().code(), &mut number)
    })
}

fn names(rows: &mut Refusals) {
    let [one, other] = [0; 2].map(|_| Array::of(Dtype::F32, &[1.0]));
    let handle = Handle::new(&config());
    handle.add_array("w", &one);
    rows.invalid(
        added_as(&handle, c"".as_ptr(), &other),
        "a parameter's name is empty, expected one that no other param of the handle has",
    );
    rows.invalid(
        added_as(&handle, c"a\xff".as_ptr(), &other),
        "a parameter's name is \"a\u{fffd}\", expected UTF-8",
    );
    rows.invalid(
        added_as(&handle, c"w".as_ptr(), &other),
        "param \"w\" is already there: names are unique in a handle",
    );
    rows.row(
        handle.find_param("v"),
        NotFound,
        "no param is called \"v\" (adamw_get_param_info gives the names)",
    );
    rows.row(
        handle.try_info(1),
        NotFound,
        "there is no param 1: numbers are below 1, and free where a param was removed",
    );
    // SAFETY: as above; nothing is written.
    let unheard =
        unsafe { adamw_add_array(handle.raw(), c"v".as_ptr(), other.data(), 1, 1, null_mut()) };
    rows.invalid(answer(unheard), "out_param is NULL");
    let memory = Array::zeros(Dtype::F32, 1);
    let fresh = Handle::new(&config());
    // SAFETY: the library sees that there are not so many.
    let too_many = unsafe {
        let mut number = 0;
        let n = 1 << 58;
        answer(adamw_add_array(
            fresh.raw(),
            c"v".as_ptr(),
            memory.data(),
            n,
            ADAMW_DTYPE_F32,
            &mut number,
        ))
    };
    rows.row(too_many, OutOfMemory, "out of memory: 1152921504606846976 bytes for exp_avg");
}

fn structs(rows: &mut Refusals) {
    let array = Array::of(Dtype::F32, &[1.0]);
    let handle = Handle::new(&config());
    let (name, tensor) = (c"w", array.tensor());
    let whole =
        adamw_param_config { name: name.as_ptr(), param: &tensor, ..adamw_param_config::DEFAULT };
    let add = |config: *const adamw_param_config| {
        let mut number = 0;
        // SAFETY: NULL, or as long as it says.
        answer(unsafe { adamw_add_param(handle.raw(), config, &mut number) })
    };
    rows.invalid(add(null()), "param is NULL");
    let known = size_of::<adamw_param_config>();
    rows.invalid(
        add(&adamw_param_config { struct_size: 20, ..whole }),
        &format!(
            "param.struct_size is 20, expected sizeof(adamw_param_config), {known}, or where one of \
             its fields ends, such as 24"
        ),
    );
    #[repr(C)]
    struct Longer(adamw_param_config, u64);
    let longer = Longer(adamw_param_config { struct_size: known + 8, ..whole }, 1);
    rows.row(
        add((&raw const longer).cast()),
        Unsupported,
        &format!(
            "param has fields beyond the {known} bytes that this version knows (struct_size {}), and \
             they are not zero: set them to 0, or use the library that has them",
            known + 8
        ),
    );
    rows.invalid(
        add(&adamw_param_config { reserved: 1, ..whole }),
        "param.reserved is 1, expected 0",
    );
    rows.invalid(
        add(&adamw_param_config { no_clip: 2, ..whole }),
        "param.no_clip is 2, expected 0 or 1",
    );
    rows.invalid(
        add(&adamw_param_config { regularizer: 3, ..whole }),
        "param.regularizer is 3, expected an ADAMW_REGULARIZER constant, 0 to 2",
    );
    rows.row(
        add(&adamw_param_config { group: 2, ..whole }),
        NotFound,
        "there is no group 2: the handle has 1 (adamw_add_group adds one)",
    );
    rows.invalid(
        add(&adamw_param_config { offload: 1, ..whole }),
        "param \"w\": param.offload is 1, expected 0 for memory of the host's",
    );
}

fn state_that_is_given(rows: &mut Refusals) {
    let [single, half] = [Dtype::F32, Dtype::Bf16].map(|dtype| Array::of(dtype, &[1.0]));
    let (master, max) = (Array::of(Dtype::F32, &[1.0]), Array::of(Dtype::F32, &[1.0]));
    let handle = Handle::new(&config());
    let of = |precision| handle.add_group(|group| group.precision = precision);
    let groups =
        [0, of(ADAMW_PRECISION_SPLIT), of(ADAMW_PRECISION_STOCHASTIC), of(ADAMW_PRECISION_KAHAN)];
    let with_master = |array, group| {
        handle.try_add(&Param { master: Some(&master), group, ..Param::new("w", array) })
    };
    for (answer, reason) in [
        (with_master(&single, 0), "master was given, but only f16 and bf16 parameters have one"),
        (with_master(&half, 0), "master was given, but the handle is not multi_precision"),
        (with_master(&half, groups[1]), "master was given, but its master is split"),
        (
            with_master(&half, groups[2]),
            "master was given, but its group has ADAMW_PRECISION_STOCHASTIC",
        ),
        (
            with_master(&half, groups[3]),
            "master was given, but its group has ADAMW_PRECISION_KAHAN",
        ),
        (
            handle.try_add(&Param { remainder: Some(&half), ..Param::new("w", &single) }),
            "remainder was given, but only 16-bit parameters of a group with ADAMW_PRECISION_SPLIT \
             or ADAMW_PRECISION_KAHAN have one",
        ),
        (
            handle.try_add(&Param { max_exp_avg_sq: Some(&max), ..Param::new("w", &single) }),
            "max_exp_avg_sq was given, but it was added without amsgrad",
        ),
        (
            handle.try_add(&Param { scales: [Some(&max), None, None], ..Param::new("w", &single) }),
            "exp_avg_scale was given, but only 8-bit and 4-bit moments have one",
        ),
    ] {
        rows.invalid(answer, &format!("param \"w\": {reason}: leave it NULL"));
    }
    rows.invalid(
        handle.try_add(&Param { exp_avg: Some(&max), step: 3, ..Param::new("w", &single) }),
        "param \"w\": step is 3, but exp_avg_sq is not given: steps taken need their state",
    );
    let coded = handle.add_group(|group| group.moments = ADAMW_MOMENTS_8BIT);
    let long = Array::zeros(Dtype::F32, 4096);
    let scales = Array::zeros(Dtype::F32, 3);
    rows.invalid(
        handle.try_add(&Param {
            group: coded,
            scales: [Some(&scales), None, None],
            ..Param::new("w", &long)
        }),
        "param \"w\": exp_avg_scale has 3 elements, expected 16, for the blocks of codes of param",
    );
    let amsgrad = Handle::new(&adamw_config { multi_precision: 1, ..config() });
    let strange = Array::of(Dtype::F32, &[7.0]);
    let number = amsgrad.add(&Param { master: Some(&strange), ..Param::new("w", &half) });
    let grad = Array::of(Dtype::Bf16, &[1.0]);
    amsgrad.set_grad(number, &grad);
    rows.invalid(
        amsgrad.try_step(),
        "param \"w\": element 0 of master does not round to param: adamw_sync_master fills a master",
    );
}

fn formats(rows: &mut Refusals) {
    let f16 = Array::of(Dtype::F16, &[1.0]);
    let coded = Array::zeros(Dtype::F32, 8192);
    let handle = Handle::new(&adamw_config { amsgrad: 1, ..config() });
    let group = |edit: fn(&mut adamw_group_config)| handle.add_group(edit);
    let split = group(|group| group.precision = ADAMW_PRECISION_SPLIT);
    let stochastic = group(|group| group.precision = ADAMW_PRECISION_STOCHASTIC);
    let nibbles = group(|group| group.moments = ADAMW_MOMENTS_4BIT);
    let of = |array, group| handle.try_add(&Param { group, ..Param::new("h", array) });
    rows.row(
        of(&f16, split),
        Unsupported,
        "param \"h\" is f16, which has no split master: multi_precision gives it an f32 one",
    );
    rows.row(
        of(&f16, stochastic),
        Unsupported,
        "param \"h\" is f16, which is not rounded stochastically: multi_precision gives it an f32 \
         master, ADAMW_PRECISION_KAHAN a remainder",
    );
    rows.row(
        of(&coded, nibbles),
        Unsupported,
        "param \"h\": 4-bit moments are not for amsgrad, which would keep the largest of what was \
         rounded up: ADAMW_MOMENTS_8BIT are",
    );
    let bytes =
        group(|group| (group.moments, group.lazy_mode) = (ADAMW_MOMENTS_8BIT, ADAMW_LAZY_ROWS));
    let number = of(&coded, bytes).unwrap();
    rows.row(
        handle.try_set_sparse_grad(number, &Rows::i64(&[0]), &Array::zeros(Dtype::F32, 4)),
        Unsupported,
        "param \"h\" has moments in codes, which are stepped in blocks and not by rows: its group's \
         lazy_mode must be ADAMW_LAZY_OFF",
    );
}

fn numbers(rows: &mut Refusals) {
    let [param, m, v] = [0; 3].map(|_| Array::zeros(Dtype::F32, 4));
    let handle = Handle::new(&config());
    let slow = handle.add_group(|group| group.beta1 = 1.0 - 1e-9);
    let after = |step, group| {
        let state = Param { exp_avg: Some(&m), exp_avg_sq: Some(&v), ..Param::new("w", &param) };
        handle.try_add(&Param { step, group, ..state })
    };
    rows.invalid(after((1 << 32) + 1, 0), "step is 4294967297, expected at most 2^32");
    rows.invalid(
        after(1 << 32, slow),
        "step is 4294967296, expected at most 2^25 with a beta whose power still falls then \
         (adamw_set_state sets powers by themselves)",
    );
    let part = |first_element, whole_elements| {
        handle.try_add(&Param { first_element, whole_elements, ..Param::new("w", &param) })
    };
    rows.invalid(
        part(6, 8),
        "param \"w\": its 4 elements from first_element 6 on leave the 8 of whole_elements",
    );
    let codes = adamw_config { moments: ADAMW_MOMENTS_8BIT, ..config() };
    let codes = Handle::new(&codes);
    let nibbles = codes.add_group(|group| group.moments = ADAMW_MOMENTS_4BIT);
    let in_codes = |group, first_element, n: usize| {
        let param = Array::zeros(Dtype::F32, n);
        let whole_elements = 8192;
        codes.try_add(&Param { group, first_element, whole_elements, ..Param::new("c", &param) })
    };
    rows.invalid(
        in_codes(0, 128, 256),
        "param \"c\": it begins at element 128 of its whole, which is no multiple of 256: its moments \
         are codes in blocks of 256, so cut the whole between blocks",
    );
    rows.invalid(
        in_codes(nibbles, 128, 130),
        "param \"c\": it ends at element 258 of its whole, which is no multiple of 128: its moments \
         are codes in blocks of 128, so cut the whole between blocks",
    );
    let penalized = |regularizer| handle.try_add(&Param { regularizer, ..Param::new("w", &param) });
    rows.invalid(
        penalized((ADAMW_REGULARIZER_L1, f64::NAN)),
        "regularizer_coeff is NaN, expected a finite number",
    );
    rows.invalid(
        penalized((ADAMW_REGULARIZER_L1, 1e39)),
        "param \"w\" is stepped in f32, in which regularizer_coeff, 1e39, is inf: give one that f32 \
         holds",
    );
}

fn places(rows: &mut Refusals) {
    let [param, other, m] = [0; 3].map(|_| Array::zeros(Dtype::F32, 4));
    let handle = Handle::new(&config());
    let w = handle.add_array("w", &param);
    rows.invalid(
        handle.try_add(&Param::new("v", &param)),
        "param \"v\": param overlaps param of param \"w\": give each memory of its own",
    );
    rows.invalid(
        handle.rebind(&[(w, ADAMW_BUFFER_EXP_AVG, &m)]),
        "param \"w\": exp_avg belongs to the library, only the host's buffers move",
    );
    rows.invalid(
        handle.rebind(&[(w, ADAMW_BUFFER_PARAM, &m), (w, ADAMW_BUFFER_PARAM, &other)]),
        "param \"w\": param is moved twice, expected once in a call",
    );
    rows.invalid(
        handle.rebind(&[(w, ADAMW_BUFFER_STEP, &m)]),
        "buffer is 6, expected an ADAMW_BUFFER constant, 1 to 5 or 9 to 12",
    );
    let rows_of = Array::zeros(Dtype::F32, 2);
    let lazy =
        |lazy_mode| handle.set_group(0, &adamw_group_config { lazy_mode, ..handle.group(0) });
    lazy(ADAMW_LAZY_EXACT).unwrap();
    handle.set_sparse_grad(w, &Rows::i64(&[0]), &rows_of);
    rows.invalid(
        handle.park(&[(w, ADAMW_BUFFER_PARAM)]),
        "param \"w\" has rows that may have steps to take yet, for which it needs its memory: another \
         lazy_mode than ADAMW_LAZY_EXACT brings them up to date",
    );
    lazy(ADAMW_LAZY_OFF).unwrap();
    handle.park(&[(w, ADAMW_BUFFER_PARAM)]).unwrap();
    rows.invalid(
        handle.try_set_grad(w, &m),
        "param \"w\": param has no memory now: adamw_rebind says where it is again",
    );
    // SAFETY: the library sees that there are none.
    let nothing = unsafe { adamw_rebind(handle.raw(), null(), null(), null(), 1) };
    rows.invalid(answer(nothing), "params is NULL");
}

#[test]
fn a_parameter_that_is_refused_says_why_and_what_to_do() {
    crate::said(refusals);
}
