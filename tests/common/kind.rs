//! The kinds of parameter that a step has its own code for.

use super::array::Dtype;

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Kind {
    pub param: Dtype,
    pub grad: Dtype,
    /// The handle is multi_precision and the parameter has an f32 master.
    pub master: bool,
    pub amsgrad: bool,
    pub maximize: bool,
}

impl Kind {
    /// A plain parameter whose gradient has its own type.
    pub fn plain(dtype: Dtype) -> Kind {
        Kind { param: dtype, grad: dtype, master: false, amsgrad: false, maximize: false }
    }

    /// Every parameter type with every gradient type that it takes, and every option.
    pub fn all() -> Vec<Kind> {
        let mut kinds = Vec::new();
        for param in Dtype::ALL {
            let grads: &[Dtype] =
                if param == Dtype::F32 { &[Dtype::F32] } else { &[param, Dtype::F32] };
            let masters: &[bool] = if param.bytes() == 2 { &[false, true] } else { &[false] };
            for &grad in grads {
                for &master in masters {
                    for (amsgrad, maximize) in
                        [(false, false), (false, true), (true, false), (true, true)]
                    {
                        kinds.push(Kind { param, grad, master, amsgrad, maximize });
                    }
                }
            }
        }
        kinds
    }
}
