//! Sparse gradients: as dense ones to the bit, or for the listed rows alone, or for the listed rows
//! now and the others in time.

use crate::common::LONG;
use crate::common::array::{Array, Dtype};
use crate::common::handle::{Failure, Handle, Param, config, isas};
use crate::common::kind::Kind;
use crate::common::random::Random;
use crate::common::rows::Rows;
use crate::common::tensors::Tensors;
use adamw::ffi::*;

/// A table, and the rows and values of each step's gradient.
struct Case {
    kind: Kind,
    height: usize,
    row: usize,
    start: Tensors,
    steps: Vec<(Vec<usize>, Array)>,
}

impl Case {
    /// Steps that list so many of the rows at random, some of them several times.
    fn new(kind: Kind, (height, row): (usize, usize), (steps, listed): (usize, usize)) -> Case {
        let mut random = Random::new((height * 31 + row * 7 + steps) as u64);
        let param = Array::ordinary(kind.param, height * row, &mut random);
        let steps = (0..steps).map(|_| {
            let rows: Vec<usize> = (0..listed).map(|_| random.next() as usize % height).collect();
            let values = Array::ordinary(kind.grad, listed * row, &mut random);
            (rows, values)
        });
        let steps = steps.collect();
        Case { kind, height, row, start: Tensors::fresh(kind, &param), steps }
    }

    /// The dense gradient of a step: values of one row added up in their order, in the compute
    /// type.
    fn dense(&self, step: usize) -> Array {
        let (rows, values) = &self.steps[step];
        let compute = self.kind.param.compute();
        let grad = Array::zeros(compute, self.height * self.row);
        let mut seen = vec![false; self.height];
        for (place, &row) in rows.iter().enumerate() {
            for column in 0..self.row {
                let (at, value) = (row * self.row + column, values.get(place * self.row + column));
                let sum = match (seen[row], compute) {
                    (false, _) => value,
                    (true, Dtype::F64) => grad.get(at) + value,
                    (true, _) => (grad.get(at) as f32 + value as f32).into(),
                };
                grad.set(at, sum);
            }
            seen[row] = true;
        }
        grad
    }

    fn config(&self) -> adamw_config {
        adamw_config {
            lr: 0.01,
            weight_decay: 0.1,
            amsgrad: self.kind.amsgrad.into(),
            maximize: self.kind.maximize.into(),
            multi_precision: self.kind.master.into(),
            num_threads: 1,
            ..config()
        }
    }

    /// The table after each of its steps has been taken with a dense gradient.
    fn stepped_dense(&self, config: &adamw_config) -> Tensors {
        let tensors = self.start.duplicate();
        let handle = Handle::new(config);
        let number = tensors.add_to(&handle, "table", 0);
        for step in 0..self.steps.len() {
            let grad = self.dense(step);
            handle.set_grad(number, &grad);
            handle.step();
        }
        drop(handle);
        tensors
    }

    /// The same with sparse gradients, every other time with int32 rows; `before` may look at the
    /// handle, the table and the rows before each step.
    fn stepped_sparse(
        &self,
        config: &adamw_config,
        before: impl Fn(&Handle, u32, &Tensors, usize),
    ) -> Tensors {
        let tensors = self.start.duplicate();
        let handle = Handle::new(config);
        let number = tensors.add_to(&handle, "table", 0);
        for (step, (rows, values)) in self.steps.iter().enumerate() {
            let rows = if step % 2 == 0 { Rows::i64(rows) } else { Rows::i32(rows) };
            before(&handle, number, &tensors, step);
            handle.set_sparse_grad(number, &rows, values);
            handle.step();
        }
        handle.sparse_flush();
        drop(handle);
        tensors
    }
}

/// Every way of clipping, so that norms and limits are part of what must agree.
fn clips(config: adamw_config) -> [adamw_config; 4] {
    [
        adamw_config { clip: ADAMW_CLIP_NONE, ..config },
        adamw_config { clip: ADAMW_CLIP_NORM, clip_norm: 0.7, ..config },
        adamw_config { clip: ADAMW_CLIP_GLOBAL_NORM, clip_norm: 0.3, ..config },
        adamw_config { clip: ADAMW_CLIP_VALUE, clip_min: 0.01, clip_max: 0.5, ..config },
    ]
}

const SHAPES: [(usize, usize); 6] = [(1, 1), (7, 3), (40, 64), (9, 129), (65, 100), (5, 4099)];

#[test]
fn a_sparse_gradient_has_the_bits_of_the_dense_one() {
    for (k, kind) in Kind::all().into_iter().enumerate() {
        for shape in SHAPES {
            let case = Case::new(kind, shape, (3, 1 + shape.0 / 2));
            let clips = clips(case.config());
            let config = clips[k % clips.len()];
            let expected = case.stepped_dense(&config);
            for isa in isas() {
                let got = case.stepped_sparse(&adamw_config { isa, ..config }, |_, _, _, _| ());
                got.assert_same(&expected, || format!("{kind:?} {shape:?} isa {isa}"));
            }
        }
    }
}

#[test]
fn every_clip_sees_the_norm_of_the_dense_gradient() {
    for kind in [Kind::plain(Dtype::F32), Kind::plain(Dtype::F64), Kind::plain(Dtype::Bf16)] {
        for shape in SHAPES {
            let case = Case::new(kind, shape, (2, shape.0));
            for config in clips(case.config()) {
                let expected = case.stepped_dense(&config);
                let got = case.stepped_sparse(&config, |_, _, _, _| ());
                got.assert_same(&expected, || format!("{kind:?} {shape:?} clip {}", config.clip));
            }
        }
    }
}

#[test]
fn lazy_rows_step_alone_and_the_others_stay() {
    for (k, kind) in Kind::all().into_iter().enumerate() {
        let (height, row) = SHAPES[k % SHAPES.len()];
        let case = Case::new(kind, (height, row), (4, 1 + height / 3));
        let config = adamw_config { lazy_mode: ADAMW_LAZY_ROWS, ..case.config() };
        let got = case.stepped_sparse(&config, |_, _, _, _| ());

        // Each row as a parameter of its own, which has always taken as many steps as the table.
        for at in 0..height {
            let expected = case.start.copy(at * row..(at + 1) * row, 0);
            for (step, (rows, _)) in case.steps.iter().enumerate() {
                if rows.contains(&at) {
                    let handle = Handle::new(&config);
                    let number = expected.add_to(&handle, "row", step as u64);
                    let grad = case.dense(step).copy(at * row..(at + 1) * row, 0);
                    handle.set_grad(number, &grad);
                    handle.step();
                }
            }
            let got = got.copy(at * row..(at + 1) * row, 0);
            got.assert_same(&expected, || format!("row {at} of {kind:?} {height} x {row}"));
        }
    }
}

#[test]
fn rows_that_catch_up_have_the_bits_of_dense_steps() {
    for (k, kind) in Kind::all().into_iter().enumerate() {
        let shape = SHAPES[k % SHAPES.len()];
        let case = Case::new(kind, shape, (9, 1 + shape.0 / 4));
        let clips = clips(case.config());
        let config = clips[k / 2 % clips.len()];
        let expected = case.stepped_dense(&config);
        for isa in isas() {
            let exact = adamw_config { lazy_mode: ADAMW_LAZY_EXACT, isa, ..config };
            let got = case.stepped_sparse(&exact, |_, _, _, _| ());
            got.assert_same(&expected, || format!("{kind:?} {shape:?} isa {isa}"));
        }
    }
}

#[test]
fn prepared_rows_read_as_if_every_step_had_been_dense() {
    for kind in [Kind::plain(Dtype::F32), Kind { master: true, ..Kind::plain(Dtype::Bf16) }] {
        let case = Case::new(kind, (300, 5), (40, 7));
        let exact = adamw_config { lazy_mode: ADAMW_LAZY_EXACT, ..case.config() };
        let dense = Handle::new(&case.config());
        let expected = case.start.duplicate();
        let number = expected.add_to(&dense, "table", 0);
        case.stepped_sparse(&exact, |handle, table, tensors, step| {
            let rows = &case.steps[step].0;
            handle.sparse_prepare(table, &Rows::i32(rows)).unwrap();
            for row in rows {
                let elements = row * case.row..(row + 1) * case.row;
                let got = tensors.copy(elements.clone(), 0);
                got.assert_same(&expected.copy(elements, 0), || format!("row {row}, step {step}"));
            }
            let grad = case.dense(step);
            dense.set_grad(number, &grad);
            dense.step();
        });
    }
}

#[test]
fn rows_catch_up_over_more_steps_than_the_log_keeps() {
    for (height, row) in [(3, 2), (1500, 1)] {
        let case = Case::new(Kind::plain(Dtype::F32), (height, row), (2500, 1));
        let exact = adamw_config { lazy_mode: ADAMW_LAZY_EXACT, ..case.config() };
        let got = case.stepped_sparse(&exact, |_, _, _, _| ());
        got.assert_same(&case.stepped_dense(&case.config()), || format!("{height} x {row}"));
    }
}

#[test]
fn a_dense_gradient_among_sparse_ones_finds_every_row_up_to_date() {
    let case = Case::new(Kind::plain(Dtype::F16), (70, 33), (12, 4));
    let exact = adamw_config { lazy_mode: ADAMW_LAZY_EXACT, ..case.config() };
    let got = case.start.duplicate();
    let handle = Handle::new(&exact);
    let number = got.add_to(&handle, "table", 0);
    for (step, (rows, values)) in case.steps.iter().enumerate() {
        let (dense, rows) = (case.dense(step), Rows::i64(rows));
        if step % 4 == 2 {
            handle.set_grad(number, &dense);
        } else {
            handle.set_sparse_grad(number, &rows, values);
        }
        handle.step();
    }
    handle.sparse_flush();
    got.assert_same(&case.stepped_dense(&case.config()), || "mixed".into());
}

#[test]
fn regularizers_reach_rows_without_a_gradient() {
    for regularizer in [(ADAMW_REGULARIZER_L1, 0.3), (ADAMW_REGULARIZER_L2, 0.2)] {
        let case = Case::new(Kind::plain(Dtype::F32), (50, 20), (8, 5));
        let run = |lazy_mode, sparse: bool| {
            let handle = Handle::new(&adamw_config { lazy_mode, ..case.config() });
            let table = case.start.param.duplicate();
            let number = handle.add(&Param { regularizer, ..Param::new("table", &table) });
            for (step, (rows, values)) in case.steps.iter().enumerate() {
                let (dense, rows) = (case.dense(step), Rows::i64(rows));
                if sparse {
                    handle.set_sparse_grad(number, &rows, values);
                } else {
                    handle.set_grad(number, &dense);
                }
                handle.step();
            }
            handle.sparse_flush();
            drop(handle);
            table
        };
        let expected = run(ADAMW_LAZY_OFF, false);
        for lazy_mode in [ADAMW_LAZY_OFF, ADAMW_LAZY_EXACT] {
            assert_eq!(run(lazy_mode, true).first_difference(&expected), None, "{lazy_mode}");
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for (k, kind) in Kind::all().into_iter().enumerate().filter(|(k, _)| k % 5 == 0) {
        let row = [8, 300, 20_000][k % 3];
        let height = LONG.div_ceil(row);
        let case = Case::new(kind, (height, row), (3, height));
        for lazy_mode in [ADAMW_LAZY_OFF, ADAMW_LAZY_ROWS, ADAMW_LAZY_EXACT] {
            let config = clips(adamw_config { lazy_mode, ..case.config() })[k % 4];
            let expected = case.stepped_sparse(&config, |_, _, _, _| ());
            for num_threads in [2, 7] {
                let config = adamw_config { num_threads, ..config };
                let got = case.stepped_sparse(&config, |_, _, _, _| ());
                got.assert_same(&expected, || format!("{kind:?} mode {lazy_mode} {num_threads}"));
            }
        }
    }
}

#[test]
fn a_gradient_that_lists_no_row_is_none() {
    for lazy_mode in [ADAMW_LAZY_OFF, ADAMW_LAZY_ROWS, ADAMW_LAZY_EXACT] {
        let handle = Handle::new(&adamw_config { lazy_mode, ..config() });
        let table = Array::of(Dtype::F32, &[1.0; 8]);
        let number = handle.add_array("table", &table);
        handle.set_sparse_grad(number, &Rows::i64(&[]), &Array::zeros(Dtype::F32, 0));
        handle.step();
        assert_eq!((table.values(), handle.info(number).step), (vec![1.0; 8], 0));
    }
}

#[test]
fn clearing_writes_zeros_over_the_values_or_forgets_them() {
    let handle = Handle::new(&config());
    let table = Array::of(Dtype::F32, &[1.0; 8]);
    let number = handle.add_array("table", &table);
    let values = Array::of(Dtype::F32, &[1.0; 4]);
    let rows = Rows::i64(&[1, 3]);
    handle.set_sparse_grad(number, &rows, &values);
    handle.clear_grad(ADAMW_CLEAR_ZERO);
    assert_eq!(values.values(), [0.0; 4]);
    handle.step();
    assert_eq!(handle.info(number).step, 1);
    handle.clear_grad(ADAMW_CLEAR_FORGET);
    handle.step();
    assert_eq!(handle.info(number).step, 1);
}

#[test]
fn rows_are_read_by_each_step() {
    let handle = Handle::new(&adamw_config { lazy_mode: ADAMW_LAZY_ROWS, lr: 0.5, ..config() });
    let table = Array::of(Dtype::F32, &[1.0; 3]);
    let number = handle.add_array("table", &table);
    let values = Array::of(Dtype::F32, &[1.0]);
    let mut rows = Rows::i32(&[0]);
    handle.set_sparse_grad(number, &rows, &values);
    handle.step();
    let Rows::I32(numbers, _) = &mut rows else { unreachable!() };
    numbers[0] = 2;
    handle.step();
    let values = table.values();
    assert!(values[0] < 1.0 && values[1] == 1.0 && values[2] < 1.0, "{values:?}");
}

#[test]
fn a_row_outside_the_table_is_named_and_nothing_changes() {
    for lazy_mode in [ADAMW_LAZY_OFF, ADAMW_LAZY_ROWS, ADAMW_LAZY_EXACT] {
        for (row, place) in [(4, 0), (-1, 1), (i64::MIN, 2), (i64::MAX, 1)] {
            let handle = Handle::new(&adamw_config { lazy_mode, ..config() });
            let (other, table) = (Array::of(Dtype::F32, &[1.0]), Array::of(Dtype::F32, &[1.0; 8]));
            let first = handle.add_array("first", &other);
            let number = handle.add_array("table", &table);
            let grad = Array::of(Dtype::F32, &[1.0]);
            handle.set_grad(first, &grad);
            let mut numbers = vec![0, 1, 2];
            numbers[place] = row;
            let rows = Rows::I64(numbers, [3]);
            let values = Array::of(Dtype::F32, &[1.0; 6]);
            handle.set_sparse_grad(number, &rows, &values);
            let Failure { status, text } = handle.try_step().unwrap_err();
            assert_eq!(status, Status::InvalidArgument);
            assert_eq!(text, format!("param \"table\": rows[{place}] is {row}, expected 0 to 3"));
            assert_eq!((other.values(), table.values()), (vec![1.0], vec![1.0; 8]));
            assert_eq!((handle.info(first).step, handle.info(number).step), (0, 0));

            // The handle goes on as if nothing had been.
            let rows = Rows::i64(&[0, 1, 2]);
            handle.set_sparse_grad(number, &rows, &values);
            handle.step();
            assert_eq!(handle.info(number).step, 1);
            let prepared = handle.sparse_prepare(number, &Rows::I64(vec![0, row], [2]));
            match lazy_mode {
                ADAMW_LAZY_EXACT => {
                    let text = format!("param \"table\": rows[1] is {row}, expected 0 to 3");
                    assert_eq!(prepared.unwrap_err().text, text);
                }
                _ => prepared.unwrap(),
            }
        }
    }
}

#[test]
fn values_that_do_not_fit_are_named() {
    let handle = Handle::new(&adamw_config { lazy_mode: ADAMW_LAZY_EXACT, ..config() });
    let table = Array::of(Dtype::F32, &[1.0; 12]);
    let number = handle.add_array("table", &table);
    let values = |n| Array::zeros(Dtype::F32, n);
    let cases = [
        (
            Rows::i64(&[0, 1]),
            values(5),
            "grad has 5 values for 2 rows, expected the same number for each row",
        ),
        (
            Rows::i64(&[0, 1]),
            values(0),
            "grad has 0 values for 2 rows, expected the same number for each row",
        ),
        (
            Rows::i64(&[]),
            values(3),
            "grad has 3 values for 0 rows, expected the same number for each row",
        ),
        (
            Rows::i64(&[0, 1]),
            values(10),
            "grad has rows of 5 elements, which do not divide the 12 of param",
        ),
        (Rows::i64(&[0, 1]), Array::zeros(Dtype::F16, 8), "grad is f16, expected f32"),
    ];
    for (rows, values, text) in &cases {
        let failure = handle.try_set_sparse_grad(number, rows, values).unwrap_err();
        assert_eq!(failure.text, format!("param \"table\": {text}"));
        assert_eq!(failure.status, Status::InvalidArgument);
    }
    handle.set_sparse_grad(number, &Rows::i64(&[0, 1]), &values(8));
    let recut = handle.try_set_sparse_grad(number, &Rows::i64(&[0, 1]), &values(6)).unwrap_err();
    assert_eq!(
        recut.text,
        "param \"table\": grad has rows of 3 elements, expected 4 as earlier ones had"
    );

    // Neither the values nor the rows may lie in what a step writes.
    let inside = handle.try_set_sparse_grad(number, &Rows::i64(&[0, 1, 2]), &table).unwrap_err();
    assert_eq!(
        inside.text,
        "param \"table\": grad overlaps param of param \"table\": give each memory of its own"
    );
    let rows = Rows::i64(&[0, 1]);
    let numbers = Array::zeros(Dtype::F64, 2);
    handle.add_array("numbers", &numbers);
    let tensor = adamw_tensor { data: numbers.data(), ..rows.tensor() };
    let failure = handle.set_sparse_grad_tensors(number, &tensor, &values(8).tensor()).unwrap_err();
    assert_eq!(
        failure.text,
        "param \"table\": rows overlaps param of param \"numbers\": give each memory of its own"
    );
}
