//! The C API: every call of it by a test goes through here.

use super::array::Array;
use super::host::user_data;
use super::rows::Rows;
use adamw::ffi::{self, Status};
use core::ffi::CStr;
use core::ptr::{null, null_mut};
use std::ffi::CString;

/// What a failed call says.
#[derive(Clone, PartialEq, Debug)]
pub struct Failure {
    pub status: Status,
    pub text: String,
}

pub type Answer<T = ()> = Result<T, Failure>;

/// Makes one call of the C API.
///
/// The tests vouch for every call alike: what they pass points to memory that outlives the call,
/// and arrays that a handle knows outlive their last step.
macro_rules! call {
    ($function:ident($($argument:expr),* $(,)?)) => {{
        // SAFETY: see above.
        #[allow(unused_unsafe, reason = "some functions take no pointer but the handle")]
        let status = unsafe { ffi::$function($($argument),*) };
        answer(status)
    }};
}

pub(crate) use call;

/// The defaults.
pub fn config() -> ffi::adamw_config {
    // SAFETY: a struct of numbers and nullable pointers, for which all zeros is a value.
    let mut config: ffi::adamw_config = unsafe { core::mem::zeroed() };
    call!(adamw_config_init(&mut config, size_of_val(&config))).unwrap();
    config
}

/// A loss scale that doubles after so many good steps, and halves after so many bad ones.
pub fn loss_scaler(
    scale: f64,
    growth_interval: u64,
    backoff_interval: u64,
) -> ffi::adamw_loss_scaler {
    ffi::adamw_loss_scaler {
        struct_size: size_of::<ffi::adamw_loss_scaler>(),
        scale,
        growth_factor: 2.0,
        backoff_factor: 0.5,
        growth_interval,
        backoff_interval,
    }
}

/// A configuration with this clip, and without the limits, which are refused there, where it is none.
pub fn with_clip(clip: ffi::adamw_clip, config: ffi::adamw_config) -> ffi::adamw_config {
    let limit = |limit| if clip == ffi::ADAMW_CLIP_NONE { 0.0 } else { limit };
    ffi::adamw_config {
        clip,
        clip_norm: limit(config.clip_norm),
        clip_min: limit(config.clip_min),
        clip_max: limit(config.clip_max),
        ..config
    }
}

/// A schedule of this kind, the rest zero.
pub fn schedule(kind: ffi::adamw_schedule_kind) -> ffi::adamw_schedule {
    // SAFETY: a struct of numbers and nullable pointers.
    let zeros: ffi::adamw_schedule = unsafe { core::mem::zeroed() };
    ffi::adamw_schedule { struct_size: size_of_val(&zeros), kind, ..zeros }
}

/// The first `n` learning rates of a schedule.
pub fn schedule_trace(schedule: &ffi::adamw_schedule, n: usize) -> Answer<Vec<f64>> {
    let mut lrs = vec![f64::NAN; n];
    call!(adamw_schedule_trace(schedule, lrs.as_mut_ptr(), n))?;
    Ok(lrs)
}

pub fn capabilities() -> ffi::adamw_capabilities {
    // SAFETY: a struct of numbers.
    let mut capabilities: ffi::adamw_capabilities = unsafe { core::mem::zeroed() };
    call!(adamw_get_capabilities(&mut capabilities, size_of_val(&capabilities))).unwrap();
    capabilities
}

/// The instruction sets that can be tested here; portable is always one.
pub fn isas() -> Vec<ffi::adamw_isa> {
    let available = capabilities().isas;
    [ffi::ADAMW_ISA_PORTABLE, ffi::ADAMW_ISA_AVX2, ffi::ADAMW_ISA_AVX512]
        .into_iter()
        .filter(|isa| available & 1 << isa != 0)
        .collect()
}

pub fn version() -> &'static str {
    // SAFETY: takes nothing, and its string is static.
    #[allow(unused_unsafe)]
    text(unsafe { ffi::adamw_version() })
}

pub fn status_name(status: i32) -> &'static str {
    // SAFETY: takes no pointer, and its string is static.
    #[allow(unused_unsafe)]
    text(unsafe { ffi::adamw_status_name(status) })
}

/// This thread's last failure.
pub fn last_error() -> String {
    // SAFETY: takes nothing; the string is copied before the next call.
    #[allow(unused_unsafe)]
    text(unsafe { ffi::adamw_last_error() }).to_owned()
}

/// A parameter to be added, as `adamw_param_config` has it.
#[derive(Clone, Copy)]
pub struct Param<'a> {
    pub name: &'a str,
    /// Its name is not said: its number is what it is called.
    pub is_unnamed: bool,
    pub param: &'a Array,
    pub master: Option<&'a Array>,
    pub remainder: Option<&'a Array>,
    pub exp_avg: Option<&'a Array>,
    pub exp_avg_sq: Option<&'a Array>,
    pub max_exp_avg_sq: Option<&'a Array>,
    /// Of exp_avg, exp_avg_sq and max_exp_avg_sq.
    pub scales: [Option<&'a Array>; 3],
    pub first_element: u64,
    pub whole_elements: u64,
    pub step: u64,
    pub group: u32,
    pub no_clip: bool,
    /// The kind and the coefficient.
    pub regularizer: (ffi::adamw_regularizer, f64),
    /// It is on a device, and the processor steps it.
    pub offload: bool,
}

impl<'a> Param<'a> {
    /// In group 0, with the library's state.
    pub fn new(name: &'a str, param: &'a Array) -> Param<'a> {
        Param {
            name,
            is_unnamed: false,
            param,
            master: None,
            remainder: None,
            exp_avg: None,
            exp_avg_sq: None,
            max_exp_avg_sq: None,
            scales: [None; 3],
            first_element: 0,
            whole_elements: 0,
            step: 0,
            group: 0,
            no_clip: false,
            regularizer: (ffi::ADAMW_REGULARIZER_NONE, 0.0),
            offload: false,
        }
    }
}

/// What `adamw_get_param_info` says of a parameter.
#[derive(Clone, PartialEq, Debug)]
pub struct Info {
    pub name: String,
    pub n_elements: u64,
    pub step: u64,
    pub param: u32,
    pub group: u32,
    pub dtype: ffi::adamw_dtype,
    pub decays: u32,
}

impl Info {
    pub fn from_c(info: &ffi::adamw_param_info) -> Info {
        Info {
            name: text(info.name).to_owned(),
            n_elements: info.n_elements,
            step: info.step,
            param: info.param,
            group: info.group,
            dtype: info.dtype,
            decays: info.decays,
        }
    }
}

/// A team that stays for as long as the process.
pub fn team(num_threads: u32) -> *mut ffi::Team {
    let mut team = null_mut();
    call!(adamw_team_create(num_threads, &mut team)).unwrap();
    team
}

/// A handle that is destroyed with its owner.
pub struct Handle(*mut ffi::Optimizer);

impl Handle {
    pub fn new(config: &ffi::adamw_config) -> Handle {
        Handle::try_new(config).unwrap()
    }

    pub fn try_new(config: &ffi::adamw_config) -> Answer<Handle> {
        let mut raw = null_mut();
        call!(adamw_create(config, &mut raw))?;
        Ok(Handle(raw))
    }

    /// What C would hold.
    pub fn raw(&self) -> *mut ffi::Optimizer {
        self.0
    }

    /// Adds a group that differs from the handle's values as `edit` makes it.
    pub fn add_group(&self, edit: impl FnOnce(&mut ffi::adamw_group_config)) -> u32 {
        // SAFETY: a struct of numbers.
        let mut group: ffi::adamw_group_config = unsafe { core::mem::zeroed() };
        call!(adamw_group_config_init(self.0, &mut group, size_of_val(&group))).unwrap();
        edit(&mut group);
        let mut number = 0;
        call!(adamw_add_group(self.0, &group, &mut number)).unwrap();
        number
    }

    pub fn try_add_group(&self, group: &ffi::adamw_group_config) -> Answer<u32> {
        let mut number = 0;
        call!(adamw_add_group(self.0, group, &mut number))?;
        Ok(number)
    }

    pub fn add(&self, param: &Param) -> u32 {
        self.try_add(param).unwrap()
    }

    pub fn try_add_array_to_group(&self, group: u32, name: &str, array: &Array) -> Answer<u32> {
        let (name, mut number) = (CString::new(name).unwrap(), 0);
        let (data, n, dtype) = (array.data(), array.len() as u64, array.dtype().code());
        call!(adamw_add_array_to_group(self.0, group, name.as_ptr(), data, n, dtype, &mut number))?;
        Ok(number)
    }

    pub fn accumulate_grad_array(&self, param: u32, array: &Array) -> Answer {
        let (data, n, dtype) = (array.data(), array.len() as u64, array.dtype().code());
        call!(adamw_accumulate_grad_array(self.0, param, data, n, dtype))
    }

    pub fn num_groups(&self) -> u32 {
        let mut count = 0;
        call!(adamw_num_groups(self.0, &mut count)).unwrap();
        count
    }

    pub fn try_add(&self, param: &Param) -> Answer<u32> {
        let tensors = [
            Some(param.param),
            param.master,
            param.exp_avg,
            param.exp_avg_sq,
            param.max_exp_avg_sq,
            param.remainder,
            param.scales[0],
            param.scales[1],
            param.scales[2],
        ]
        .map(|array| array.map(Array::tensor));
        self.try_add_tensors(param, tensors)
    }

    /// The same with tensors in place of its arrays: the parameter, master, exp_avg, exp_avg_sq,
    /// max_exp_avg_sq, remainder and the scales.
    pub fn try_add_tensors(
        &self,
        param: &Param,
        tensors: [Option<ffi::adamw_tensor>; 9],
    ) -> Answer<u32> {
        let name = CString::new(param.name).unwrap();
        let [tensor, master, exp_avg, exp_avg_sq, max_exp_avg_sq, remainder, scales @ ..] =
            tensors.each_ref().map(|tensor| tensor.as_ref().map_or(null(), |t| t as *const _));
        let config = ffi::adamw_param_config {
            struct_size: size_of::<ffi::adamw_param_config>(),
            name: if param.is_unnamed { null() } else { name.as_ptr() },
            param: tensor,
            master,
            exp_avg,
            exp_avg_sq,
            max_exp_avg_sq,
            step: param.step,
            group: param.group,
            no_clip: param.no_clip.into(),
            regularizer_coeff: param.regularizer.1,
            regularizer: param.regularizer.0,
            reserved: 0,
            remainder,
            exp_avg_scale: scales[0],
            exp_avg_sq_scale: scales[1],
            max_exp_avg_sq_scale: scales[2],
            first_element: param.first_element,
            whole_elements: param.whole_elements,
            offload: param.offload.into(),
            reserved_2: 0,
        };
        let mut number = 0;
        call!(adamw_add_param(self.0, &config, &mut number))?;
        Ok(number)
    }

    /// The short form: group 0, the library's state.
    pub fn add_array(&self, name: &str, array: &Array) -> u32 {
        let name = CString::new(name).unwrap();
        self.add_at(&name, array.data(), array.len() as u64, array.dtype().code())
    }

    /// The same of elements that are part of an array.
    pub fn add_at(
        &self,
        name: &CStr,
        data: *mut core::ffi::c_void,
        n: u64,
        dtype: ffi::adamw_dtype,
    ) -> u32 {
        let mut number = 0;
        call!(adamw_add_array(self.0, name.as_ptr(), data, n, dtype, &mut number)).unwrap();
        number
    }

    /// Tells the library where buffers have moved, all at once.
    pub fn rebind(&self, moves: &[(u32, ffi::adamw_buffer, &Array)]) -> Answer {
        let moves = moves.iter().map(|(param, buffer, array)| (*param, *buffer, array.tensor()));
        self.rebind_tensors(&moves.collect::<Vec<_>>())
    }

    pub fn rebind_tensors(&self, moves: &[(u32, ffi::adamw_buffer, ffi::adamw_tensor)]) -> Answer {
        let there = moves.iter().map(|(param, buffer, tensor)| (*param, *buffer, Some(*tensor)));
        self.rebind_some(&there.collect::<Vec<_>>())
    }

    /// Takes the memory of buffers back.
    pub fn park(&self, buffers: &[(u32, ffi::adamw_buffer)]) -> Answer {
        let gone = buffers.iter().map(|(param, buffer)| (*param, *buffer, None));
        self.rebind_some(&gone.collect::<Vec<_>>())
    }

    /// The same; `None`: the buffer has no memory.
    pub fn rebind_some(
        &self,
        moves: &[(u32, ffi::adamw_buffer, Option<ffi::adamw_tensor>)],
    ) -> Answer {
        let params: Vec<_> = moves.iter().map(|(param, ..)| *param).collect();
        let buffers: Vec<_> = moves.iter().map(|(_, buffer, _)| *buffer).collect();
        let pointers: Vec<_> =
            moves.iter().map(|(_, _, t)| t.as_ref().map_or(null(), |t| t as *const _)).collect();
        call!(adamw_rebind(
            self.0,
            params.as_ptr(),
            buffers.as_ptr(),
            pointers.as_ptr(),
            moves.len()
        ))
    }

    pub fn set_grad(&self, param: u32, grad: &Array) {
        self.try_set_grad(param, grad).unwrap()
    }

    pub fn try_set_grad(&self, param: u32, grad: &Array) -> Answer {
        call!(adamw_set_grad(self.0, param, &grad.tensor()))
    }

    pub fn set_grad_tensor(&self, param: u32, grad: &ffi::adamw_tensor) -> Answer {
        call!(adamw_set_grad(self.0, param, grad))
    }

    pub fn accumulate_tensor(&self, param: u32, grad: &ffi::adamw_tensor) -> Answer {
        call!(adamw_accumulate_grad(self.0, param, grad))
    }

    pub fn prepare(&self) -> Answer {
        call!(adamw_prepare(self.0))
    }

    pub fn set_stream(&self, stream: *mut core::ffi::c_void) -> Answer {
        call!(adamw_set_stream(self.0, stream))
    }

    /// The addresses of lr, grad_scale and found_inf on the device; 0: none.
    pub fn set_device_inputs(&self, addresses: [u64; 3]) -> Answer {
        let [lr, grad_scale, found_inf] =
            addresses.map(|address| core::ptr::without_provenance(address as usize));
        let struct_size = size_of::<ffi::adamw_device_inputs>();
        let inputs = ffi::adamw_device_inputs { struct_size, lr, grad_scale, found_inf };
        call!(adamw_set_device_inputs(self.0, &inputs))
    }

    /// The short form of `set_grad`.
    pub fn set_grad_array(&self, param: u32, grad: &Array) {
        let (data, n, dtype) = (grad.data(), grad.len() as u64, grad.dtype().code());
        call!(adamw_set_grad_array(self.0, param, data, n, dtype)).unwrap()
    }

    /// Several at once; `None` forgets one.
    pub fn set_grads(&self, grads: &[(u32, Option<&Array>)]) {
        let params: Vec<_> = grads.iter().map(|(param, _)| *param).collect();
        let tensors: Vec<_> = grads.iter().map(|(_, grad)| grad.map(Array::tensor)).collect();
        let pointers: Vec<_> =
            tensors.iter().map(|t| t.as_ref().map_or(null(), |t| t as *const _)).collect();
        call!(adamw_set_grads(self.0, params.as_ptr(), pointers.as_ptr(), grads.len())).unwrap()
    }

    pub fn set_sparse_grad(&self, param: u32, rows: &Rows, values: &Array) {
        self.try_set_sparse_grad(param, rows, values).unwrap()
    }

    pub fn try_set_sparse_grad(&self, param: u32, rows: &Rows, values: &Array) -> Answer {
        self.set_sparse_grad_tensors(param, &rows.tensor(), &values.tensor())
    }

    pub fn set_sparse_grad_tensors(
        &self,
        param: u32,
        rows: &ffi::adamw_tensor,
        values: &ffi::adamw_tensor,
    ) -> Answer {
        call!(adamw_set_sparse_grad(self.0, param, rows, values))
    }

    pub fn sparse_prepare(&self, param: u32, rows: &Rows) -> Answer {
        self.sparse_prepare_tensor(param, &rows.tensor())
    }

    pub fn sparse_prepare_tensor(&self, param: u32, rows: &ffi::adamw_tensor) -> Answer {
        call!(adamw_sparse_prepare(self.0, param, rows))
    }

    pub fn try_sparse_flush(&self) -> Answer {
        call!(adamw_sparse_flush(self.0))
    }

    pub fn sparse_flush(&self) {
        self.try_sparse_flush().unwrap()
    }

    pub fn forget_grad(&self, param: u32) {
        call!(adamw_set_grad(self.0, param, null())).unwrap()
    }

    pub fn clear_grad(&self, mode: ffi::adamw_clear) {
        call!(adamw_clear_grad(self.0, mode)).unwrap()
    }

    pub fn sync_master(&self, param: u32) {
        self.try_sync_master(param).unwrap()
    }

    pub fn try_sync_master(&self, param: u32) -> Answer {
        call!(adamw_sync_master(self.0, param))
    }

    pub fn step(&self) {
        self.try_step().unwrap()
    }

    pub fn grad_ready(&self, param: u32) -> Answer {
        call!(adamw_grad_ready(self.0, param))
    }

    pub fn step_param(&self, param: u32) -> Answer {
        call!(adamw_step_param(self.0, param))
    }

    /// A step of `n_others` threads and this one together.
    pub fn step_together(&self, n_others: usize) -> Answer {
        call!(adamw_step_begin(self.0))?;
        let handle = self.0.addr(); // a number, which any thread may use
        std::thread::scope(|scope| {
            for _ in 0..n_others {
                scope.spawn(move || {
                    call!(adamw_step_work(core::ptr::without_provenance_mut(handle))).unwrap()
                });
            }
            call!(adamw_step_end(self.0))
        })
    }

    pub fn try_step(&self) -> Answer {
        call!(adamw_step(self.0))
    }

    pub fn group(&self, group: u32) -> ffi::adamw_group_config {
        // SAFETY: a struct of numbers and nullable pointers.
        let mut values: ffi::adamw_group_config = unsafe { core::mem::zeroed() };
        call!(adamw_get_group(self.0, group, &mut values, size_of_val(&values))).unwrap();
        values
    }

    pub fn set_group(&self, group: u32, values: &ffi::adamw_group_config) -> Answer {
        call!(adamw_set_group(self.0, group, values))
    }

    pub fn options(&self, param: u32) -> ffi::adamw_param_options {
        // SAFETY: a struct of numbers.
        let mut options: ffi::adamw_param_options = unsafe { core::mem::zeroed() };
        call!(adamw_get_param_options(self.0, param, &mut options, size_of_val(&options))).unwrap();
        options
    }

    pub fn set_options(&self, param: u32, options: &ffi::adamw_param_options) -> Answer {
        call!(adamw_set_param_options(self.0, param, options))
    }

    /// Changes some of a parameter's options.
    pub fn edit_options(&self, param: u32, edit: impl FnOnce(&mut ffi::adamw_param_options)) {
        let mut options = self.options(param);
        edit(&mut options);
        self.set_options(param, &options).unwrap()
    }

    pub fn accumulate_grad(&self, param: u32, grad: &Array) -> Answer {
        call!(adamw_accumulate_grad(self.0, param, &grad.tensor()))
    }

    pub fn set_accumulation_window(&self, window: u64) {
        call!(adamw_set_accumulation_window(self.0, window)).unwrap()
    }

    /// The loss and what was updated, each parameter with the address of its gradient. `data` is
    /// what the closure gets as `user_data`.
    pub fn minimize<T>(
        &self,
        closure: ffi::adamw_closure,
        data: &T,
        params: Option<&[u32]>,
        no_grad: &[u32],
        capacity: usize,
    ) -> Answer<(f64, Vec<(u32, usize)>)> {
        let unwritten = ffi::adamw_param_grad { grad: null_mut(), param: u32::MAX, reserved: 0 };
        let mut updated = vec![unwritten; capacity];
        let args = ffi::adamw_minimize_args {
            struct_size: size_of::<ffi::adamw_minimize_args>(),
            closure,
            user_data: user_data(data),
            params: params.map_or(null(), |params| params.as_ptr()),
            num_params: params.map_or(0, |params| params.len()),
            no_grad: no_grad.as_ptr(),
            num_no_grad: no_grad.len(),
            updated: updated.as_mut_ptr(),
            capacity,
        };
        let (mut loss, mut count) = (f64::NAN, usize::MAX);
        call!(adamw_minimize(self.0, &args, &mut loss, &mut count))?;
        updated.truncate(count);
        Ok((loss, updated.iter().map(|pair| (pair.param, pair.grad.addr())).collect()))
    }

    pub fn apply_gradients(&self, grads: &[(u32, &Array)]) -> Answer {
        let grads: Vec<_> = grads.iter().map(|(param, grad)| (*param, grad.tensor())).collect();
        self.apply_gradient_tensors(&grads)
    }

    pub fn apply_gradient_tensors(&self, grads: &[(u32, ffi::adamw_tensor)]) -> Answer {
        let params: Vec<_> = grads.iter().map(|(param, _)| *param).collect();
        let pointers: Vec<_> = grads.iter().map(|(_, grad)| grad as *const _).collect();
        call!(adamw_apply_gradients(self.0, params.as_ptr(), pointers.as_ptr(), grads.len()))
    }

    pub fn memory_plan(
        &self,
        group: u32,
        dtype: ffi::adamw_dtype,
        n: u64,
    ) -> Answer<ffi::adamw_memory> {
        self.plan_of_part(group, dtype, n, 0)
    }

    pub fn plan_of_part(
        &self,
        group: u32,
        dtype: ffi::adamw_dtype,
        n: u64,
        whole: u64,
    ) -> Answer<ffi::adamw_memory> {
        // SAFETY: a struct of numbers.
        let mut memory: ffi::adamw_memory = unsafe { core::mem::zeroed() };
        let size = size_of_val(&memory);
        call!(adamw_memory_plan(self.0, group, dtype, n, whole, &mut memory, size))?;
        Ok(memory)
    }

    pub fn num_params(&self) -> u32 {
        let mut count = 0;
        call!(adamw_num_params(self.0, &mut count)).unwrap();
        count
    }

    pub fn find_param(&self, name: &str) -> Answer<u32> {
        let (name, mut number) = (CString::new(name).unwrap(), 0);
        call!(adamw_find_param(self.0, name.as_ptr(), &mut number))?;
        Ok(number)
    }

    pub fn state_info(
        &self,
        param: u32,
        buffer: ffi::adamw_buffer,
    ) -> Answer<ffi::adamw_state_info> {
        // SAFETY: a struct of numbers and a nullable pointer.
        let mut info: ffi::adamw_state_info = unsafe { core::mem::zeroed() };
        call!(adamw_get_state_info(self.0, param, buffer, &mut info, size_of_val(&info)))?;
        Ok(info)
    }

    pub fn state_name(
        &self,
        param: u32,
        buffer: ffi::adamw_buffer,
        names: ffi::adamw_names,
    ) -> Answer<String> {
        let mut length = 0;
        call!(adamw_get_state_name(self.0, param, buffer, names, null_mut(), 0, &mut length))?;
        let mut name = vec![0x7fu8; length + 2];
        let to = name.as_mut_ptr().cast();
        call!(adamw_get_state_name(self.0, param, buffer, names, to, length + 1, &mut length))?;
        assert_eq!(name[length..], [0, 0x7f]);
        Ok(String::from_utf8(name[..length].to_vec()).unwrap())
    }

    pub fn find_state(&self, name: &str) -> Answer<(u32, ffi::adamw_buffer)> {
        let (name, mut number, mut buffer) = (CString::new(name).unwrap(), 0, 0);
        call!(adamw_find_state(self.0, name.as_ptr(), &mut number, &mut buffer))?;
        Ok((number, buffer))
    }

    pub fn get_state(&self, name: &str, to: &Array) -> Answer {
        let name = CString::new(name).unwrap();
        let (n, dtype) = (to.len() as u64, to.dtype().code());
        call!(adamw_get_state(self.0, name.as_ptr(), to.data(), n, dtype))
    }

    pub fn set_state(&self, name: &str, from: &Array) -> Answer {
        let name = CString::new(name).unwrap();
        let (n, dtype) = (from.len() as u64, from.dtype().code());
        call!(adamw_set_state(self.0, name.as_ptr(), from.data(), n, dtype))
    }

    /// `None` for the parameters stands for all from 0 on.
    pub fn set_grad_data(&self, params: Option<&[u32]>, data: &[*mut core::ffi::c_void]) -> Answer {
        let params = params.map_or(null(), <[u32]>::as_ptr);
        call!(adamw_set_grad_data(self.0, params, data.as_ptr().cast(), data.len()))
    }

    /// `None` stands for all parameters from 0 on.
    pub fn set_steps(&self, params: Option<&[u32]>, steps: &[u64]) -> Answer {
        let params = params.map_or(null(), <[u32]>::as_ptr);
        call!(adamw_set_steps(self.0, params, steps.as_ptr(), steps.len()))
    }

    /// The step counts of the parameters from 0 on.
    pub fn steps(&self, n_params: usize) -> Vec<u64> {
        let mut steps = vec![u64::MAX; n_params];
        call!(adamw_get_steps(self.0, null(), steps.as_mut_ptr(), n_params)).unwrap();
        steps
    }

    pub fn reset(&self, param: u32) {
        self.try_reset(param).unwrap()
    }

    pub fn try_reset(&self, param: u32) -> Answer {
        call!(adamw_reset_param(self.0, param))
    }

    pub fn remove(&self, param: u32) -> Answer {
        call!(adamw_remove_param(self.0, param))
    }

    pub fn param_lr(&self, param: u32) -> Answer<f64> {
        let mut lr = f64::NAN;
        call!(adamw_get_param_lr(self.0, param, &mut lr))?;
        Ok(lr)
    }

    pub fn grad_scale(&self) -> f64 {
        let mut scale = f64::NAN;
        call!(adamw_get_grad_scale(self.0, &mut scale)).unwrap();
        scale
    }

    pub fn set_scaler(&self, scaler: &ffi::adamw_loss_scaler) -> Answer {
        call!(adamw_set_loss_scaler(self.0, scaler))
    }

    pub fn remove_scaler(&self) {
        call!(adamw_set_loss_scaler(self.0, null())).unwrap()
    }

    pub fn scaler_state(&self) -> Answer<ffi::adamw_loss_scaler_state> {
        // SAFETY: a struct of numbers.
        let mut state: ffi::adamw_loss_scaler_state = unsafe { core::mem::zeroed() };
        call!(adamw_get_loss_scaler_state(self.0, &mut state, size_of_val(&state)))?;
        Ok(state)
    }

    pub fn set_scaler_state(&self, state: &ffi::adamw_loss_scaler_state) -> Answer {
        call!(adamw_set_loss_scaler_state(self.0, state))
    }

    /// The flags outlive the handle.
    pub fn set_found_inf(&self, found_inf: *const f32, out_found_inf: *mut f32) {
        call!(adamw_set_found_inf(self.0, found_inf, out_found_inf)).unwrap()
    }

    pub fn set_grad_scale(&self, scale: f64) -> Answer {
        call!(adamw_set_grad_scale(self.0, scale))
    }

    pub fn pinned_bytes(&self) -> u64 {
        let mut bytes = 0;
        call!(adamw_get_pinned_bytes(self.raw(), &mut bytes)).unwrap();
        bytes
    }

    pub fn set_offload_timing(&self, timing: u32) -> Answer {
        call!(adamw_set_offload_timing(self.0, timing))
    }

    pub fn offload_info(&self) -> Answer<ffi::adamw_offload_info> {
        // SAFETY: plain numbers.
        let mut info: ffi::adamw_offload_info = unsafe { core::mem::zeroed() };
        call!(adamw_get_offload_info(self.0, &mut info, size_of_val(&info))).map(|()| info)
    }

    /// The address on the device of an f32 that gets the loss scale; 0: none.
    pub fn set_device_scale(&self, address: u64) -> Answer {
        let out = core::ptr::without_provenance_mut(address as usize);
        call!(adamw_set_device_scale(self.0, out))
    }

    pub fn measure_grads(&self, sums: &ffi::adamw_tensor) -> Answer {
        call!(adamw_measure_grads(self.0, sums))
    }

    pub fn set_grad_sums(&self, sums: Option<&ffi::adamw_tensor>) -> Answer {
        call!(adamw_set_grad_sums(self.0, sums.map_or(null(), |sums| sums)))
    }

    /// The norm of the gradients, and the count of what is not finite.
    pub fn grad_norm(&self) -> Answer<(f64, u64)> {
        let (mut norm, mut n_nonfinite) = (0.0, 0);
        call!(adamw_get_grad_norm(self.0, &mut norm, &mut n_nonfinite))?;
        Ok((norm, n_nonfinite))
    }

    pub fn set_statistics(&self, statistics: u32) -> Answer {
        call!(adamw_set_statistics(self.0, statistics))
    }

    pub fn step_info(&self) -> ffi::adamw_step_info {
        self.try_step_info().unwrap()
    }

    pub fn try_step_info(&self) -> Answer<ffi::adamw_step_info> {
        // SAFETY: plain numbers.
        let mut info: ffi::adamw_step_info = unsafe { core::mem::zeroed() };
        call!(adamw_get_step_info(self.0, &mut info, size_of_val(&info))).map(|()| info)
    }

    pub fn set_lr(&self, lr: f64) {
        call!(adamw_set_lr(self.0, lr)).unwrap()
    }

    pub fn lr(&self) -> f64 {
        let mut lr = f64::NAN;
        call!(adamw_get_lr(self.0, &mut lr)).unwrap();
        lr
    }

    pub fn try_set_lr(&self, lr: f64) -> Answer {
        call!(adamw_set_lr(self.0, lr))
    }

    /// What the schedule points to outlives the call, and its function the schedule.
    pub fn set_schedule(&self, schedule: &ffi::adamw_schedule) -> Answer {
        call!(adamw_set_lr_schedule(self.0, schedule))
    }

    pub fn remove_schedule(&self) {
        call!(adamw_set_lr_schedule(self.0, null())).unwrap()
    }

    pub fn advance_schedule(&self) -> Answer {
        call!(adamw_schedule_advance(self.0))
    }

    pub fn advance_schedule_with_metric(&self, metric: f64) -> Answer {
        call!(adamw_schedule_advance_with_metric(self.0, metric))
    }

    pub fn schedule_state(&self) -> Answer<ffi::adamw_schedule_state> {
        // SAFETY: a struct of numbers.
        let mut state: ffi::adamw_schedule_state = unsafe { core::mem::zeroed() };
        call!(adamw_get_schedule_state(self.0, &mut state, size_of_val(&state)))?;
        Ok(state)
    }

    pub fn set_schedule_index(&self, index: u64) -> Answer {
        call!(adamw_set_schedule_index(self.0, index))
    }

    pub fn set_schedule_state(&self, state: &ffi::adamw_schedule_state) -> Answer {
        call!(adamw_set_schedule_state(self.0, state))
    }

    /// `data` is what the filter gets as `user_data`; it outlives the filter.
    pub fn set_decay_filter<T>(&self, filter: ffi::adamw_decay_filter, data: &T) -> Answer {
        call!(adamw_set_decay_filter(self.0, filter, user_data(data)))
    }

    /// `data` is what the function gets as `user_data`; it outlives the function.
    pub fn set_lr_ratio<T>(&self, lr_ratio: ffi::adamw_lr_ratio, data: &T) {
        call!(adamw_set_lr_ratio(self.0, lr_ratio, user_data(data))).unwrap()
    }

    pub fn info(&self, param: u32) -> Info {
        self.try_info(param).unwrap()
    }

    pub fn try_info(&self, param: u32) -> Answer<Info> {
        // SAFETY: a struct of numbers and one nullable pointer.
        let mut info: ffi::adamw_param_info = unsafe { core::mem::zeroed() };
        call!(adamw_get_param_info(self.0, param, &mut info, size_of_val(&info)))?;
        Ok(Info::from_c(&info))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let destroyed = call!(adamw_destroy(self.0));
        if !std::thread::panicking() {
            destroyed.unwrap();
        }
    }
}

pub fn answer(status: Status) -> Answer {
    match status {
        Status::Ok => Ok(()),
        status => Err(Failure { status, text: last_error() }),
    }
}

fn text(pointer: *const core::ffi::c_char) -> &'static str {
    assert!(!pointer.is_null());
    // SAFETY: the library's strings are NUL-terminated; those that change are copied at once.
    unsafe { CStr::from_ptr(pointer) }.to_str().unwrap()
}
