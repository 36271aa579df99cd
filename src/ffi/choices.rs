//! Checks at compile time that each constant of the header has the number of its variant.

use super::*;
use crate::clip::{ClipKind, NormScope};
use crate::config::{self, BiasCorrection, DevicePool, IsaCap, Lazy, Nonfinite, Penalty};
use crate::dtype::Dtype;
use crate::format::{MomentFormat, Precision};
use crate::optimizer::{self, Clear, Scheme};
use crate::schedule::{Advance, CyclicMode, Kind};

macro_rules! numbered {
    ($($constant:ident: $variant:expr;)*) => {
        $(const _: () = assert!($constant == $variant.number(), stringify!($constant));)*
    };
}

numbered! {
    ADAMW_CLIP_NONE: ClipKind::None;
    ADAMW_CLIP_NORM: ClipKind::Norm;
    ADAMW_CLIP_GLOBAL_NORM: ClipKind::GlobalNorm;
    ADAMW_CLIP_VALUE: ClipKind::Value;
    ADAMW_CLIP_SCOPE_HANDLE: NormScope::Handle;
    ADAMW_CLIP_SCOPE_GROUP: NormScope::Group;
    ADAMW_BIAS_CORRECTION_PRODUCTS: BiasCorrection::Products;
    ADAMW_BIAS_CORRECTION_CURRENT: BiasCorrection::Current;
    ADAMW_BIAS_CORRECTION_NONE: BiasCorrection::None;
    ADAMW_ISA_BEST: IsaCap::Best;
    ADAMW_ISA_PORTABLE: IsaCap::Portable;
    ADAMW_ISA_AVX2: IsaCap::Avx2;
    ADAMW_ISA_AVX512: IsaCap::Avx512;
    ADAMW_DEVICE_MEMORY_DEFAULT: DevicePool::Default;
    ADAMW_DEVICE_MEMORY_POOL: DevicePool::Pool;
    ADAMW_LAZY_OFF: Lazy::Off;
    ADAMW_LAZY_ROWS: Lazy::Rows;
    ADAMW_LAZY_EXACT: Lazy::Exact;
    ADAMW_NONFINITE_PROPAGATE: Nonfinite::Propagate;
    ADAMW_NONFINITE_SKIP: Nonfinite::Skip;
    ADAMW_NONFINITE_FAIL: Nonfinite::Fail;
    ADAMW_REGULARIZER_NONE: Penalty::None;
    ADAMW_REGULARIZER_L1: Penalty::L1;
    ADAMW_REGULARIZER_L2: Penalty::L2;
    ADAMW_MOMENTS_F32: MomentFormat::Full;
    ADAMW_MOMENTS_BF16: MomentFormat::Bf16;
    ADAMW_MOMENTS_8BIT: MomentFormat::Bytes;
    ADAMW_MOMENTS_4BIT: MomentFormat::Nibbles;
    ADAMW_PRECISION_DEFAULT: Precision::Plain;
    ADAMW_PRECISION_SPLIT: Precision::Split;
    ADAMW_PRECISION_STOCHASTIC: Precision::Stochastic;
    ADAMW_PRECISION_KAHAN: Precision::Kahan;
    ADAMW_CLEAR_ZERO: Clear::Zero;
    ADAMW_CLEAR_FORGET: Clear::Forget;
    ADAMW_NAMES_NEUTRAL: Scheme::Neutral;
    ADAMW_NAMES_PADDLE: Scheme::Paddle;
    ADAMW_LOAD_ALL: optimizer::LoadScope::All;
    ADAMW_LOAD_SUBSET: optimizer::LoadScope::Subset;
    ADAMW_LOAD_SHARED: optimizer::LoadScope::Shared;
    ADAMW_ADVANCE_ON_STEP: Advance::OnStep;
    ADAMW_ADVANCE_MANUALLY: Advance::Manually;
    ADAMW_CYCLIC_TRIANGULAR: CyclicMode::Triangular;
    ADAMW_CYCLIC_TRIANGULAR2: CyclicMode::Triangular2;
    ADAMW_CYCLIC_EXP_RANGE: CyclicMode::ExpRange;
    ADAMW_SCHEDULE_NOAM: Kind::Noam;
    ADAMW_SCHEDULE_PIECEWISE: Kind::Piecewise;
    ADAMW_SCHEDULE_NATURAL_EXP: Kind::NaturalExp;
    ADAMW_SCHEDULE_INVERSE_TIME: Kind::InverseTime;
    ADAMW_SCHEDULE_POLYNOMIAL: Kind::Polynomial;
    ADAMW_SCHEDULE_LINEAR_WARMUP: Kind::LinearWarmup;
    ADAMW_SCHEDULE_EXPONENTIAL: Kind::Exponential;
    ADAMW_SCHEDULE_MULTI_STEP: Kind::MultiStep;
    ADAMW_SCHEDULE_STEP: Kind::Step;
    ADAMW_SCHEDULE_LAMBDA: Kind::Lambda;
    ADAMW_SCHEDULE_REDUCE_ON_PLATEAU: Kind::ReduceOnPlateau;
    ADAMW_SCHEDULE_COSINE_ANNEALING: Kind::CosineAnnealing;
    ADAMW_SCHEDULE_MULTIPLICATIVE: Kind::Multiplicative;
    ADAMW_SCHEDULE_ONE_CYCLE: Kind::OneCycle;
    ADAMW_SCHEDULE_CYCLIC: Kind::Cyclic;
    ADAMW_SCHEDULE_LINEAR: Kind::Linear;
    ADAMW_SCHEDULE_COSINE_WARM_RESTARTS: Kind::CosineWarmRestarts;
    ADAMW_SCHEDULE_CONSTANT_WITH_WARMUP: Kind::ConstantWithWarmup;
    ADAMW_SCHEDULE_LINEAR_WITH_WARMUP: Kind::LinearWithWarmup;
    ADAMW_SCHEDULE_COSINE_WITH_WARMUP: Kind::CosineWithWarmup;
    ADAMW_SCHEDULE_INVERSE_SQRT: Kind::InverseSqrt;
    ADAMW_SCHEDULE_WARMUP_STABLE_DECAY: Kind::WarmupStableDecay;
    ADAMW_SCHEDULE_CHAIN: Kind::Chain;
    ADAMW_SCHEDULE_FUNCTION: Kind::Function;
}

macro_rules! types {
    ($($constant:ident $code:ident: $dtype:ident;)*) => {
        $(const _: () = assert!($constant == Dtype::$dtype as u32, stringify!($constant));
        const _: () = assert!($code == Dtype::$dtype.dlpack().0, stringify!($constant));)*
    };
}

types! {
    ADAMW_DTYPE_F32 ADAMW_CODE_FLOAT: F32;
    ADAMW_DTYPE_F64 ADAMW_CODE_FLOAT: F64;
    ADAMW_DTYPE_F16 ADAMW_CODE_FLOAT: F16;
    ADAMW_DTYPE_BF16 ADAMW_CODE_BFLOAT: Bf16;
    ADAMW_DTYPE_I16 ADAMW_CODE_INT: I16;
    ADAMW_DTYPE_U8 ADAMW_CODE_UINT: U8;
}

const _: () = assert!(ADAMW_FORMULA_EPS_BEFORE_CORRECTION == config::EPS_BEFORE_CORRECTION);
const _: () = assert!(ADAMW_FORMULA_DECAYS_NEW_VALUE == config::DECAYS_NEW_VALUE);
