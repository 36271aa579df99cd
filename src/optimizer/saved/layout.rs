//! Which tensors a checkpoint has, and in which order.
//!
//! `each_tensor` visits the bytes of all, part by part. With few parameters every tensor of a
//! parameter is one of the file, under its name (`each_named`). The names of many would make a
//! header longer than the state and, for a million, than a header may be: their state is packed
//! (`each_packed`), one tensor of the file for each kind of state and type, in which the parameters
//! lie one behind the other. `Packed` is what that takes besides: parameters that are stepped and
//! kept alike are of one kind, whose words are written once.
#![forbid(unsafe_code)]

use super::load::pieces::Unit;
use crate::dtype::Dtype;
use crate::error::Error;
use crate::optimizer::params::Shard;
use crate::optimizer::params::names::{neutral_name, tensor_name};
use crate::optimizer::params::table::ParamId;
use crate::optimizer::{Item, Optimizer};
use crate::role::Role;
use crate::sys::memory::reserve;
use core::fmt::{self, Write};

/// The most parameters whose tensors have names of their own.
const MOST_NAMED: usize = 4096;

/// The kinds that are looked through for one that a parameter is of; there may be more.
const LATEST_KINDS: usize = 16;

/// A tensor of a file, or the next part of it.
pub struct Saved<'a> {
    /// The parts of its name.
    pub name: [&'a str; 3],
    pub dtype: &'static str,
    /// `None` for a number.
    pub n_elements: Option<u64>,
    pub bytes: Bytes,
    pub n_bytes: usize,
    /// It goes on where the one before has ended.
    pub goes_on: bool,
}

/// Where bytes are.
pub enum Bytes {
    /// The first of these.
    Number([u8; 8]),
    Of(ParamId, Role),
    /// The name of a parameter, and a NUL.
    Name(ParamId),
    /// The words of all kinds.
    Kinds,
}

/// What decides on the tensors of a file.
pub struct Layout {
    /// The parameters themselves are saved, too.
    pub params: bool,
    pub packed: Option<Packed>,
    /// By group, the learning rate of its parameters, read once: the host may change it meanwhile.
    lrs: Vec<f64>,
}

/// What a file says of many parameters.
#[derive(Default)]
pub struct Packed {
    /// By parameter, in the order in which they are visited, the number of its kind.
    kinds: Vec<u32>,
    /// The words of each kind, with a NUL behind them.
    pub words: Vec<u8>,
    has_shards: bool,
    /// By role, a bit for each type in `Dtype::ALL` that some parameter has there.
    held: [u32; N_ROLES],
}

const N_ROLES: usize = Role::MaxExpAvgSqScale as usize + 1;

/// The sizes of elements. Those of one size lie together, the largest first, so that all are
/// aligned.
const ELEMENT_BYTES: [usize; 4] = [8, 4, 2, 1];

type Visit<'v, 's> = dyn FnMut(Saved<'s>) -> Result<(), Error> + 'v;

/// Writes to a list of bytes, which may have no memory.
struct Words<'a>(&'a mut Vec<u8>);

impl Write for Words<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.try_reserve(text.len()).map_err(|_| fmt::Error)?;
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

impl Layout {
    /// Returns the roles of the tensors that are saved of a parameter.
    fn roles(&self) -> impl Iterator<Item = Role> + use<> {
        self.params.then_some(Role::Param).into_iter().chain(Role::STATE)
    }
}

impl Optimizer {
    pub(super) fn layout(&self, params: bool) -> Result<Layout, Error> {
        let mut lrs = Vec::new();
        reserve(&mut lrs, self.groups.len(), "the learning rates of a checkpoint")?;
        let lr = self.saved_lr();
        lrs.extend(self.groups.iter().map(|group| {
            // Where the host keeps what no step would take, it is that of the last step, as lr is.
            let current = group.current();
            lr * current.as_ref().unwrap_or(group).lr_scale
        }));
        let mut layout = Layout { params, packed: None, lrs };
        if self.params.live().nth(MOST_NAMED).is_some() {
            layout.packed = Some(self.packed(&layout)?);
        }
        Ok(layout)
    }

    fn packed(&self, layout: &Layout) -> Result<Packed, Error> {
        const WHAT: &str = "what a checkpoint says of parameters";
        let mut packed = Packed::default();
        let Packed { kinds, words, has_shards, held } = &mut packed;
        reserve(kinds, self.params.len(), WHAT)?;
        // Where the words of the latest kinds begin, the latest last, and how many kinds there are.
        let (mut latest, mut n_kinds) = ([0; LATEST_KINDS], 0u32);
        for id in self.params.live() {
            *has_shards |= self.params.shard(id) != Shard::default();
            let start = words.len();
            let written = self.write_kind(&mut Words(words), id, layout);
            written.map_err(|_| Error::OutOfMemory { what: WHAT, bytes: words.len() })?;
            let n_latest = LATEST_KINDS.min(n_kinds as usize);
            let (before, new) = words.split_at(start);
            let known =
                (1..=n_latest).find(|back| before[latest[LATEST_KINDS - back]..].starts_with(new));
            match known {
                Some(back) => {
                    kinds.push(n_kinds - back as u32);
                    words.truncate(start);
                }
                None => {
                    for role in layout.roles() {
                        let tensor = self.params.operands(id).tensor(role);
                        held[role as usize] |= tensor.map_or(0, |tensor| bit(tensor.dtype()));
                    }
                    latest.rotate_left(1);
                    latest[LATEST_KINDS - 1] = start;
                    kinds.push(n_kinds);
                    n_kinds += 1;
                }
            }
        }
        Ok(packed)
    }

    /// Writes how a parameter is stepped and kept, with a NUL behind it.
    fn write_kind(&self, to: &mut impl Write, id: ParamId, layout: &Layout) -> fmt::Result {
        let operands = self.params.operands(id);
        write!(to, "dtype={}", operands.param().dtype())?;
        self.write_choices(to, id)?;
        let mut before = " tensors=";
        for role in layout.roles() {
            let Some(tensor) = operands.tensor(role) else { continue };
            write!(to, "{before}{role}:{}", tensor.dtype().safetensors_name())?;
            let Unit { elements, stored } = Unit::of(&operands.format(), role);
            if elements != stored {
                write!(to, ":{elements}:{stored}")?;
            }
            before = ",";
        }
        to.write_str("\0")
    }

    /// Visits the bytes of every tensor in the order of the file.
    pub(super) fn each_tensor<'s>(
        &'s self,
        layout: &'s Layout,
        mut visit: impl FnMut(Saved<'s>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        ELEMENT_BYTES.into_iter().try_for_each(|element_bytes| match &layout.packed {
            None => self.each_named(layout, element_bytes, &mut visit),
            Some(packed) => self.each_packed(layout, packed, element_bytes, &mut visit),
        })
    }

    fn each_named<'s>(
        &'s self,
        layout: &Layout,
        element_bytes: usize,
        visit: &mut Visit<'_, 's>,
    ) -> Result<(), Error> {
        for id in self.params.live() {
            let name = self.params[id].name();
            if element_bytes == 8 {
                let state = |item| neutral_name(name, item);
                let names = [
                    state(Item::Step),
                    state(Item::Beta1Power),
                    state(Item::Beta2Power),
                    ["param_groups.", name, ".lr"],
                ];
                for (name, (dtype, bits)) in names.into_iter().zip(self.counters(id, layout)) {
                    let (bytes, n_bytes) = (Bytes::Number(bits.to_le_bytes()), 8);
                    let n_elements = None;
                    visit(Saved { name, dtype, n_elements, bytes, n_bytes, goes_on: false })?;
                }
            }
            for role in layout.roles() {
                let Some(tensor) = self.params.operands(id).tensor(role) else { continue };
                if tensor.dtype().bytes() == element_bytes {
                    visit(Saved {
                        name: tensor_name(name, role),
                        dtype: tensor.dtype().safetensors_name(),
                        n_elements: Some(tensor.n_elements()),
                        bytes: Bytes::Of(id, role),
                        n_bytes: tensor.addresses().len(),
                        goes_on: false,
                    })?;
                }
            }
        }
        Ok(())
    }

    fn each_packed<'s>(
        &'s self,
        layout: &Layout,
        packed: &Packed,
        element_bytes: usize,
        visit: &mut Visit<'_, 's>,
    ) -> Result<(), Error> {
        let mut column = |name, dtype, number: &dyn Fn(ParamId, usize) -> u64| {
            self.params.live().enumerate().try_for_each(|(i, id)| {
                let (bytes, goes_on) = (Bytes::Number(number(id, i).to_le_bytes()), i > 0);
                let (name, n_elements) = (["params.", name, ""], Some(1));
                visit(Saved { name, dtype, n_elements, bytes, n_bytes: element_bytes, goes_on })
            })
        };
        if element_bytes == 8 {
            let names = ["step", "beta1_power", "beta2_power", "lr"];
            for (at, (name, dtype)) in
                names.into_iter().zip(["U64", "F64", "F64", "F64"]).enumerate()
            {
                column(name, dtype, &|id, _| self.counters(id, layout)[at].1)?;
            }
            let n_elements = |id: ParamId| self.params.operands(id).param().n_elements();
            column("n_elements", "U64", &|id, _| n_elements(id))?;
            if packed.has_shards {
                let shard = |id| self.params.shard(id);
                column("first_element", "U64", &|id, _| shard(id).first_element)?;
                column("whole", "U64", &|id, _| shard(id).whole)?;
            }
        }
        if element_bytes == 4 {
            column("kind", "U32", &|_, i| packed.kinds[i].into())?;
        }
        for role in layout.roles() {
            let is_held = |dtype: &&Dtype| packed.held[role as usize] & bit(**dtype) != 0;
            let dtypes = Dtype::ALL.iter().filter(is_held);
            for dtype in dtypes.filter(|dtype| dtype.bytes() == element_bytes) {
                let of = |id| self.params.operands(id).tensor(role);
                let typed = self.params.live().filter_map(|id| Some((id, of(id)?)));
                let typed = typed.filter(|(_, tensor)| tensor.dtype() == *dtype);
                for (i, (id, tensor)) in typed.enumerate() {
                    let dtype = dtype.safetensors_name();
                    visit(Saved {
                        name: [packed_prefix(role), dtype, ""],
                        dtype,
                        n_elements: Some(tensor.n_elements()),
                        bytes: Bytes::Of(id, role),
                        n_bytes: tensor.addresses().len(),
                        goes_on: i > 0,
                    })?;
                }
            }
        }
        if element_bytes > 1 {
            return Ok(());
        }
        let mut bytes = |name, bytes, n_bytes: usize, goes_on| {
            let (name, n_elements) = (["params.", name, ""], Some(n_bytes as u64));
            visit(Saved { name, dtype: "U8", n_elements, bytes, n_bytes, goes_on })
        };
        for (i, id) in self.params.live().enumerate() {
            let n_bytes = self.params[id].name.count_bytes() + 1;
            bytes("name", Bytes::Name(id), n_bytes, i > 0)?;
        }
        bytes("kinds", Bytes::Kinds, packed.words.len(), false)
    }

    /// Returns the types and the bits of the counters of a parameter: of its step, the powers of
    /// the betas, and the learning rate.
    fn counters(&self, id: ParamId, layout: &Layout) -> [(&'static str, u64); 4] {
        let (param, clock) = (&self.params[id], self.params.clock(id));
        // This leaves out the host's `lr_ratio`, which a save does not call.
        let lr = layout.lrs[param.group as usize] * param.lr_scale;
        [
            ("U64", clock.step),
            ("F64", clock.beta1_power.to_bits()),
            ("F64", clock.beta2_power.to_bits()),
            ("F64", lr.to_bits()),
        ]
    }
}

fn bit(dtype: Dtype) -> u32 {
    1 << Dtype::ALL.iter().position(|each| *each == dtype).unwrap_or(0)
}

/// Returns the name of the tensor in which a kind of state is packed, up to its type.
pub fn packed_prefix(role: Role) -> &'static str {
    match role {
        Role::Master => "state.master.",
        Role::Remainder => "state.remainder.",
        Role::ExpAvg => "state.exp_avg.",
        Role::ExpAvgSq => "state.exp_avg_sq.",
        Role::MaxExpAvgSq => "state.max_exp_avg_sq.",
        Role::ExpAvgScale => "state.exp_avg_scale.",
        Role::ExpAvgSqScale => "state.exp_avg_sq_scale.",
        Role::MaxExpAvgSqScale => "state.max_exp_avg_sq_scale.",
        Role::Param | Role::Grad | Role::Rows => "param.",
    }
}
