//! What the twin alone is asked: calls after which nothing is different, and calls that fail.

use crate::call::Aside;
use crate::common::array::{Array, Dtype};
use crate::common::checkpoint::{load_options, save_args};
use crate::common::handle::{Answer, Param};
use crate::common::model::Grad;
use crate::common::model::param::Layout;
use crate::graph::moves;
use crate::more::More;
use crate::side::Side;
use crate::world::World;
use crate::written::Written;
use adamw::ffi::*;
use core::ffi::c_void;

impl World {
    pub fn aside(&mut self, aside: &Aside) {
        self.counts.asides += 1;
        self.counts.calls += 1;
        if moves(aside) {
            self.drop_graph();
        }
        match aside {
            // A graph that clears gradients would change what was measured.
            Aside::Ready(_) if self.graph.is_some() => {}
            Aside::Ready(param) => {
                let (number, is_there) = self.param(*param);
                let ready = self.twin.handle.grad_ready(number);
                assert!(is_there || ready.is_err());
            }
            Aside::Flush => self.twin.handle.sparse_flush(),
            Aside::Prepare { param, rows } => {
                let (number, is_there) = self.param(*param);
                let is_turned = is_there
                    && matches!(self.model.params[number as usize].layout, Layout::Turned(_));
                if is_there
                    && !is_turned
                    && let Some((rows, _)) = self.rows(number, rows)
                {
                    self.twin.prepare_rows(number, &rows).unwrap();
                }
            }
            Aside::Look { param, buffer } => {
                let (number, is_there) = self.param(*param);
                let seen = self.twin.handle.state_info(number, (*buffer).into());
                assert!(is_there || seen.is_err());
            }
            Aside::Rebind(param) => {
                let (number, is_there) = self.param(*param);
                if is_there {
                    self.flush();
                    self.twin.rebind(number).unwrap();
                }
            }
            Aside::Park(param) => self.park(*param),
            Aside::SameGroup(group) => {
                let (number, is_there) = self.group(*group);
                if is_there {
                    let group = self.twin.handle.group(number);
                    let is_set = self.twin.handle.set_group(number, &group).is_ok();
                    let is_good = self.model.current(&self.model.groups[number as usize]).is_some();
                    assert_eq!(is_set, is_good, "what the host keeps now, set");
                }
            }
            Aside::SameOptions(param) => {
                let (number, is_there) = self.param(*param);
                if is_there {
                    let options = self.twin.handle.options(number);
                    self.twin.handle.set_options(number, &options).unwrap();
                }
            }
            Aside::Reload { params } => self.reload(*params),
            Aside::SaveTwice => {
                let [plain, twin] =
                    [&self.plain, &self.twin].map(|side| side.handle.try_saved(true).map(Written));
                assert_eq!(plain.is_ok(), self.model.can_save());
                assert!(plain.is_err() && twin.is_err() || plain == twin, "the checkpoints differ");
            }
            Aside::Read(reads) => {
                self.twin.read_there(*reads);
                self.write_inputs();
            }
            Aside::TellScale(tells) => self.twin.tell_scale(*tells),
            Aside::TimeCopies(times) => {
                let has_device = self.twin.handle.set_offload_timing((*times).into()).is_ok();
                let info = self.twin.handle.offload_info().unwrap();
                assert!((0.0..=1.0).contains(&info.hidden), "{info:?}");
                assert!(has_device || info.n_bytes_up == 0, "{info:?}");
            }
            // Both read the numbers that the host keeps: what is saved where the next is none.
            Aside::PrepareStep => {
                let _ = self.twin.handle.prepare();
                let _ = self.plain.handle.prepare();
            }
            Aside::Wrong { what, param } => self.wrong(*what, *param),
        }
    }

    /// Saves and loads, which is nothing but for what a load ends: that some were stepped alone.
    fn reload(&mut self, params: bool) {
        let is_alone = self.model.live().any(|number| self.model.params[number].alone);
        if !self.model.can_save() || is_alone || self.model.live().count() == 0 {
            return;
        }
        self.counts.reloads += 1;
        let bytes = self.twin.handle.try_saved(params).unwrap();
        let options = adamw_load_options { params: params.into(), ..load_options() };
        self.twin.handle.load_bytes(&bytes, &options).unwrap();
    }

    /// Takes the memory of a parameter back, and gives it other memory.
    fn park(&mut self, param: u8) {
        let (number, is_there) = self.param(param);
        let held = self.model.params.get(number as usize).and_then(|param| param.grad.as_ref());
        // A sum would be lost, and rows may be refused by the mode that the group has now.
        if !is_there || !matches!(held, None | Some(Grad::Dense(_))) {
            return;
        }
        self.flush();
        match self.twin.park(number) {
            // Rows may lag, which only a sparse gradient in its time has begun.
            Err(failure) => assert!(failure.text.contains("steps to take yet"), "{}", failure.text),
            Ok(()) => {
                let n = self.model.params[number as usize].param.len();
                let grad = Array::zeros(self.twin.dtype(number), n);
                assert!(self.twin.set_grad(number, &grad, false).is_err());
                assert!(self.twin.handle.try_saved(true).is_err());
                self.twin.unpark(number).unwrap();
            }
        }
    }

    /// A call that fails.
    fn wrong(&mut self, what: u8, param: u8) {
        let (number, is_there) = self.param(param);
        if !is_there {
            return;
        }
        self.counts.failed += 1;
        let (name, call) = WRONG[what as usize % WRONG.len()];
        let answer = call(&self.twin, number, self.model.params[number as usize].param.len());
        assert!(answer.is_err(), "{name} was taken");
    }
}

/// A parameter of the side, and its length.
type Wrong = fn(&Side, u32, usize) -> Answer;

const WRONG: [(&str, Wrong); 22] = [
    ("a gradient that is too long", |side, number, n| {
        side.handle.try_set_grad(number, &Array::zeros(Dtype::F32, n + 1))
    }),
    ("a gradient of another type", |side, number, n| {
        side.handle.try_set_grad(number, &Array::zeros(Dtype::I16, n))
    }),
    ("a gradient in another order", |side, number, n| {
        let grad = Array::zeros(side.dtype(number), n);
        let (shape, strides) = ([2, n as i64 / 2], [1, 2]);
        let (shape, strides) = (shape.as_ptr().cast_mut(), strides.as_ptr().cast_mut());
        match n {
            4.. if n.is_multiple_of(2) && !side.is_turned(number) => {
                let turned = adamw_tensor { ndim: 2, shape, strides, ..grad.tensor() };
                side.handle.set_grad_tensor(number, &turned)
            }
            _ => side.handle.try_set_lr(-1.0),
        }
    }),
    ("a micro-batch that is too long", |side, number, n| {
        side.handle.accumulate_grad(number, &Array::zeros(Dtype::F32, n + 1))
    }),
    ("a learning rate of NaN", |side, _, _| side.handle.try_set_lr(f64::NAN)),
    ("a loss scale that f32 cannot invert", |side, _, _| side.handle.set_grad_scale(1e-39)),
    ("a group of another beta", |side, _, _| {
        let group = adamw_group_config { beta1: 1.0, ..side.handle.group(0) };
        side.handle.set_group(0, &group)
    }),
    ("a group that is not there", |side, _, _| side.handle.set_group(77, &side.handle.group(0))),
    ("an unknown regularizer", |side, number, _| {
        let options = side.handle.options(number);
        side.handle.set_options(number, &adamw_param_options { regularizer: 9, ..options })
    }),
    ("a move to a group that is not there", |side, number, _| {
        let options = side.handle.options(number);
        side.handle.set_options(number, &adamw_param_options { group: 77, ..options })
    }),
    ("a shorter place", |side, number, n| {
        side.handle.rebind_param(number, &Array::zeros(side.dtype(number), n + 1).tensor())
    }),
    ("a place that is no memory of the device", |side, number, n| {
        let array = Array::zeros(side.dtype(number), n);
        let device = adamw_device { device_type: 2, device_id: 0 };
        match n {
            0 => side.handle.try_set_lr(-1.0),
            _ => side.handle.rebind_param(number, &adamw_tensor { device, ..array.tensor() }),
        }
    }),
    ("state of another length", |side, number, n| {
        let name = format!("state.{}.exp_avg", side.handle.info(number).name);
        side.handle.set_state(&name, &Array::zeros(Dtype::F32, n + 1))
    }),
    ("a step count of -1", |side, number, _| {
        let name = format!("state.{}.step", side.handle.info(number).name);
        side.handle.set_state(&name, &Array::of(Dtype::F64, &[-1.0]))
    }),
    ("a name that is taken", |side, number, _| {
        let (name, array) = (side.handle.info(number).name, Array::zeros(Dtype::F32, 5));
        side.handle.try_add(&Param::new(&name, &array)).map(|_| ())
    }),
    ("a parameter of no group", |side, _, _| {
        let array = Array::zeros(Dtype::F32, 5);
        side.handle.try_add(&Param { group: 77, ..Param::new("new", &array) }).map(|_| ())
    }),
    ("no parameter to remove", |side, _, _| side.handle.remove(7777)),
    ("half a checkpoint", |side, _, _| {
        let bytes = side.handle.try_saved(false)?;
        side.handle.load_bytes(&bytes[..bytes.len() - 1], &load_options())
    }),
    ("a function that does not take a checkpoint", |side, _, _| {
        let args = adamw_save_args { write: Some(write_nothing), ..save_args() };
        side.handle.save_to(&args).map(|_| ())
    }),
    ("a closure that fails", |side, _, _| {
        side.handle.minimize(Some(no_loss), &(), None, &[], 0).map(|_| ())
    }),
    ("a parameter given twice", |side, number, n| {
        let grad = Array::zeros(Dtype::F32, n);
        side.handle.apply_gradients(&[(number, &grad), (number, &grad)])
    }),
    ("a schedule without an end", |side, _, _| {
        let schedule = crate::common::handle::schedule(ADAMW_SCHEDULE_COSINE_WITH_WARMUP);
        side.handle.set_schedule(&schedule)
    }),
];

extern "C" fn write_nothing(_: *const c_void, _: usize, _: *mut c_void) -> i32 {
    1
}

extern "C" fn no_loss(_: *mut f64, _: *mut c_void) -> i32 {
    1
}
