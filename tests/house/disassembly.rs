//! What `objdump -d` prints, as functions, instructions and loops.

pub struct Function {
    pub name: String,
    pub instructions: Vec<Instruction>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Instruction {
    pub address: u64,
    /// Without the `v` that AVX puts before it.
    pub name: String,
    /// Of x86 in AT&T order, the destination last; of aarch64 the destination first.
    pub operands: String,
}

/// Reads `objdump --disassemble --demangle --no-show-raw-insn`.
pub fn functions(text: &str) -> Vec<Function> {
    let mut functions: Vec<Function> = Vec::new();
    for line in text.lines() {
        let title = line.strip_suffix(">:").and_then(|line| line.split_once(" <"));
        if let Some((_, name)) = title {
            functions.push(Function { name: name.to_owned(), instructions: Vec::new() });
        } else if let (Some(function), Some(instruction)) =
            (functions.last_mut(), instruction(line))
        {
            function.instructions.push(instruction);
        }
    }
    functions
}

fn instruction(line: &str) -> Option<Instruction> {
    let (address, text) = line.trim_start().split_once(":\t")?;
    let (name, operands) = text.trim().split_once([' ', '\t']).unwrap_or((text.trim(), ""));
    Some(Instruction {
        address: u64::from_str_radix(address, 16).ok()?,
        name: name.strip_prefix('v').unwrap_or(name).to_owned(),
        operands: operands.trim().to_owned(),
    })
}

impl Function {
    /// The instructions from where a jump goes back to up to that jump.
    pub fn loops(&self) -> Vec<&[Instruction]> {
        let first = self.instructions.first().map_or(0, |instruction| instruction.address);
        let back = |at: usize| {
            let jump = &self.instructions[at];
            let target = jump.is_jump().then(|| jump.operands.split(" <").next())??;
            let target = target.rsplit(' ').next()?;
            let target = u64::from_str_radix(target, 16).ok()?;
            (first..=jump.address).contains(&target).then_some(target)
        };
        (0..self.instructions.len())
            .filter_map(|at| back(at).map(|target| (at, target)))
            .map(|(at, target)| {
                let start = self.instructions.partition_point(|other| other.address < target);
                &self.instructions[start..=at]
            })
            .collect()
    }
}

/// The registers in which an instruction set keeps several floats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Registers {
    Xmm,
    Ymm,
    Zmm,
    Neon,
}

impl Registers {
    /// How operands name them where they are loaded and stored.
    fn name(self) -> &'static str {
        match self {
            Registers::Xmm => "%xmm",
            Registers::Ymm => "%ymm",
            Registers::Zmm => "%zmm",
            Registers::Neon => "q",
        }
    }
}

impl Instruction {
    fn is_jump(&self) -> bool {
        let is_conditional = ["j", "b.", "cb", "tb"].iter().any(|way| self.name.starts_with(way));
        is_conditional || self.name == "b"
    }

    pub fn is_call(&self) -> bool {
        self.name.starts_with("call") || self.name == "bl" || self.name == "blr"
    }

    /// Arithmetic on one float of a register.
    pub fn is_scalar(&self) -> bool {
        let x86 = self.name.strip_suffix("ss").or(self.name.strip_suffix("sd"));
        let is_single = self.operands.starts_with(['s', 'd']);
        let aarch64 = self.name.strip_prefix('f').filter(|_| is_single);
        x86.or(aarch64).is_some_and(|name| ["add", "sub", "mul", "div", "sqrt"].contains(&name))
    }

    /// Arithmetic of this name on full registers of floats, `bits` each.
    pub fn is_packed(&self, operation: &str, bits: u32, registers: Registers) -> bool {
        let (name, lanes) = match (registers, bits) {
            (Registers::Neon, 32) => (format!("f{operation}"), ".4s"),
            (Registers::Neon, _) => (format!("f{operation}"), ".2d"),
            (_, 32) => (format!("{operation}ps"), registers.name()),
            _ => (format!("{operation}pd"), registers.name()),
        };
        self.name == name && self.operands.contains(lanes)
    }

    /// Multiplies and adds with one rounding.
    pub fn is_fused(&self) -> bool {
        let fused = ["fmadd", "fmsub", "fnmadd", "fnmsub", "fmla", "fmls"];
        fused.iter().any(|fused| self.name.starts_with(fused))
    }

    pub fn loads(&self, registers: Registers) -> bool {
        if registers == Registers::Neon {
            return self.name.starts_with("ld") && self.operands.starts_with(registers.name());
        }
        let (from, to) = self.operands.rsplit_once(',').unwrap_or_default();
        self.name.starts_with("mov") && from.ends_with(')') && to.starts_with(registers.name())
    }

    pub fn stores(&self, registers: Registers) -> bool {
        if registers == Registers::Neon {
            return self.name.starts_with("st") && self.operands.starts_with(registers.name());
        }
        let (from, to) = self.operands.split_once(',').unwrap_or_default();
        self.name.starts_with("mov") && from.starts_with(registers.name()) && to.ends_with(')')
    }
}

#[test]
fn functions_instructions_and_loops_of_x86_are_read() {
    let text = "
lib.so:     file format elf64-x86-64

0000000000022ab0 <adamw::f<T>>:
   22ab0:\tpush   %rax
   22ab1:\tjae    22ac8 <adamw::f<T>+0x18>
   22ab7:\tvmovups (%rsi,%r11,1),%zmm14
   22abe:\tvsqrtps %zmm14,%zmm15
   22ac4:\tvmovups %zmm15,0x40(%rsi,%r11,1)
   22ac8:\tjne    22ab7 <adamw::f<T>+0x7>
   22ace:\tcall   *0x5a4c2(%rip)        # 7d1c0 <panic>
   22ad4:\tvfmadd213ss %xmm1,%xmm2,%xmm3
   22ada:\tsqrtsd %xmm1,%xmm2
   22ae0:\tjmp    1000 <g>
   22ae5:\tret

0000000000023000 <g>:
   23000:\tret
";
    let functions = functions(text);
    let names: Vec<_> = functions.iter().map(|function| &function.name[..]).collect();
    assert_eq!(names, ["adamw::f<T>", "g"]);
    let f = &functions[0].instructions;
    assert_eq!(f.len(), 11);
    assert_eq!(functions[0].loops(), [&f[2..6]]);
    assert_eq!((&f[3].name[..], &f[3].operands[..]), ("sqrtps", "%zmm14,%zmm15"));
    let all = |is: fn(&Instruction) -> bool| -> Vec<usize> {
        (0..f.len()).filter(|&at| is(&f[at])).collect()
    };
    assert_eq!(all(|i| i.loads(Registers::Zmm)), [2]);
    assert_eq!(all(|i| i.stores(Registers::Zmm)), [4]);
    assert_eq!(all(Instruction::is_call), [6]);
    assert_eq!(all(Instruction::is_fused), [7]);
    assert_eq!(all(Instruction::is_scalar), [8]);
}

#[test]
fn functions_instructions_and_loops_of_aarch64_are_read() {
    let text = "
000000000002ba20 <adamw::f<T>>:
   2ba20:\tcbz\tx2, 2ba44 <adamw::f<T>+0x24>
   2ba24:\tldr\tq16, [x12], #16
   2ba28:\tfsqrt\tv18.4s, v17.4s
   2ba2c:\tstr\tq16, [x10], #16
   2ba30:\tb.ne\t2ba24 <adamw::f<T>+0x4>  // b.any
   2ba34:\tfsqrt\ts17, s16
   2ba38:\tfmla\tv1.4s, v2.4s, v3.4s
   2ba3c:\ttbnz\tw0, #0, 2ba34 <adamw::f<T>+0x14>
   2ba40:\tbl\t108ac <panic>
   2ba44:\tret
";
    let functions = functions(text);
    let f = &functions[0].instructions;
    assert_eq!(functions[0].loops(), [&f[1..5], &f[5..8]]);
    let all = |is: fn(&Instruction) -> bool| -> Vec<usize> {
        (0..f.len()).filter(|&at| is(&f[at])).collect()
    };
    assert_eq!(all(|i| i.loads(Registers::Neon)), [1]);
    assert_eq!(all(|i| i.is_packed("sqrt", 32, Registers::Neon)), [2]);
    assert_eq!(all(|i| i.stores(Registers::Neon)), [3]);
    assert_eq!(all(Instruction::is_scalar), [5]);
    assert_eq!(all(Instruction::is_fused), [6]);
    assert_eq!(all(Instruction::is_call), [8]);
}
