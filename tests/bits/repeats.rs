//! A step of the same parameters as the last one finds nothing out anew for each of them. What the
//! host changes without a call, in memory that the library reads or in what its callbacks answer, is
//! found out all the same.

use crate::common::array::{Array, Dtype};
use crate::common::handle::{Handle, Param, config};
use crate::common::host::from_user_data;
use crate::common::random::Random;
use crate::common::rows::Rows;
use adamw::ffi::{self, *};
use core::cell::Cell;
use core::ffi::c_void;

const N: usize = 12;

/// Three parameters with gradients of one size, which agree in all that makes a step.
struct Scene {
    handle: Handle,
    params: [Array; 3],
    grads: [Array; 3],
    rows: Rows,
    ratio: Box<Cell<f64>>,
}

/// How a handle is made, and what happens before each step.
struct Case {
    name: &'static str,
    config: fn(&mut adamw_config),
    begin: fn(&Scene),
    before: fn(&mut Scene, usize),
}

impl Case {
    const PLAIN: Case = Case { name: "", config: |_| (), begin: |_| (), before: |_, _| () };
}

/// The ratio of the last parameter is the scene's.
unsafe extern "C" fn ratio(
    info: *const ffi::adamw_param_info,
    ratio: *mut f64,
    scene: *mut c_void,
) -> i32 {
    // SAFETY: registered with a cell; the two others are valid for the call.
    unsafe {
        let of_scene: &Cell<f64> = from_user_data(scene);
        *ratio = if (*info).param == 2 { of_scene.get() } else { 1.0 };
    }
    0
}

const CASES: [Case; 13] = [
    Case { name: "nothing", ..Case::PLAIN },
    Case {
        name: "a global norm that begins to clip, and one parameter that is not clipped",
        config: |config| (config.clip, config.clip_norm) = (ADAMW_CLIP_GLOBAL_NORM, 1.0),
        begin: |scene| scene.handle.edit_options(1, |options| options.no_clip = 1),
        before: |scene, step| scene.grads[0].fill(if step < 2 { 0.01 } else { 3.0 }),
    },
    Case {
        name: "norms of which one begins to clip",
        config: |config| (config.clip, config.clip_norm) = (ADAMW_CLIP_NORM, 1.0),
        before: |scene, step| scene.grads[1].fill(if step < 2 { 0.01 } else { 3.0 }),
        ..Case::PLAIN
    },
    Case {
        name: "a callback that changes its mind",
        begin: |scene| scene.handle.set_lr_ratio(Some(ratio), &*scene.ratio),
        before: |scene, step| scene.ratio.set(if step < 2 { 1.0 } else { 0.5 }),
        ..Case::PLAIN
    },
    Case {
        name: "a callback that comes late",
        before: |scene, step| {
            if step == 2 {
                scene.ratio.set(0.5);
                scene.handle.set_lr_ratio(Some(ratio), &*scene.ratio);
            }
        },
        ..Case::PLAIN
    },
    Case {
        name: "statistics now and then",
        before: |scene, step| scene.handle.set_statistics((step % 2) as u32).unwrap(),
        ..Case::PLAIN
    },
    Case {
        name: "other rows in the same list",
        begin: |scene| scene.handle.set_sparse_grad(1, &scene.rows, &scene.grads[1]),
        before: Scene::change_row,
        ..Case::PLAIN
    },
    Case {
        name: "other rows in the same list, by themselves",
        config: |config| config.lazy_mode = ADAMW_LAZY_ROWS,
        begin: |scene| scene.handle.set_sparse_grad(1, &scene.rows, &scene.grads[1]),
        before: Scene::change_row,
    },
    Case {
        name: "other rows in the same list, which catch up",
        config: |config| config.lazy_mode = ADAMW_LAZY_EXACT,
        begin: |scene| scene.handle.set_sparse_grad(1, &scene.rows, &scene.grads[1]),
        before: Scene::change_row,
    },
    Case {
        name: "sums",
        before: |scene, _| scene.handle.accumulate_grad(1, &scene.grads[2]).unwrap(),
        ..Case::PLAIN
    },
    Case {
        name: "a gradient in the place of another, one that is forgotten, one that comes back",
        before: |scene, step| match step {
            1 => scene.handle.set_grad(0, &scene.grads[2]),
            2 => scene.handle.forget_grad(1),
            4 => scene.handle.set_grad(1, &scene.grads[1]),
            _ => (),
        },
        ..Case::PLAIN
    },
    Case {
        name: "a gradient in the place of one that lists no row",
        begin: |scene| {
            let (rows, values) = (Rows::i64(&[]), Array::zeros(Dtype::F32, 0));
            scene.handle.set_sparse_grad(1, &rows, &values);
        },
        before: |scene, step| {
            if step == 2 {
                scene.handle.set_grad(1, &scene.grads[1]);
            }
        },
        ..Case::PLAIN
    },
    Case {
        name: "one parameter by itself in between",
        before: |scene, step| {
            if step % 2 == 1 {
                scene.handle.step_param(1).unwrap();
                scene.handle.set_grad(1, &scene.grads[1]);
            }
        },
        ..Case::PLAIN
    },
];

impl Scene {
    fn new(case: &Case) -> Scene {
        let mut config = adamw_config { num_threads: 1, eps: 0.5, lr: 0.1, ..config() };
        (case.config)(&mut config);
        let random = &mut Random::new(5);
        let scene = Scene {
            handle: Handle::new(&config),
            params: [(); 3].map(|()| Array::ordinary(Dtype::F32, N, random)),
            grads: [(); 3].map(|()| Array::zeros(Dtype::F32, N)),
            rows: Rows::i64(&[0; N]),
            ratio: Box::new(Cell::new(1.0)),
        };
        for (name, (param, grad)) in
            ["a", "b", "c"].iter().zip(scene.params.iter().zip(&scene.grads))
        {
            grad.fill(0.01);
            scene.handle.set_grad(scene.handle.add(&Param::new(name, param)), grad);
        }
        (case.begin)(&scene);
        scene
    }

    fn change_row(&mut self, step: usize) {
        match &mut self.rows {
            Rows::I64(rows, _) => rows[0] = step as i64,
            Rows::I32(..) => unreachable!(),
        }
    }

    /// Tells the library that anything may have changed.
    fn stir(&self) {
        self.handle.set_group(0, &self.handle.group(0)).unwrap();
    }
}

#[test]
fn a_repeated_step_has_the_bits_of_one_that_finds_everything_out() {
    for case in CASES {
        let (mut plain, mut stirred) = (Scene::new(&case), Scene::new(&case));
        for step in 0..6 {
            (case.before)(&mut plain, step);
            plain.handle.step();
            stirred.stir();
            (case.before)(&mut stirred, step);
            stirred.stir();
            stirred.handle.step();
            for (a, b) in plain.params.iter().zip(&stirred.params) {
                assert_eq!(a.first_difference(b), None, "{}, step {step}", case.name);
            }
            let info = [&plain, &stirred].map(|scene| {
                let info = scene.handle.step_info();
                (info.n_elements, info.grad_norm, info.clip_factor, info.update_norm)
            });
            assert_eq!(info[0], info[1], "{}, step {step}", case.name);
        }
    }
}
