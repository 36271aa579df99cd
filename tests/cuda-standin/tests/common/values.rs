//! Values at the edges, and kernels of one instruction that run over them.

use super::{Kernel, device, text, trouble};

pub const F32: [u32; 18] = [
    0,
    0x8000_0000,
    1,
    0x8000_0001,
    0x007F_FFFF,
    0x0080_0000,
    0x3F80_0000,
    0xBF80_0000,
    0x3F7F_FFFF,
    0x3EAA_AAAB,
    0x4B80_0000,
    0x7F7F_FFFF,
    0xFF7F_FFFF,
    0x7F80_0000,
    0xFF80_0000,
    0x7FC0_1234,
    0xFF80_0001,
    0x4049_0FDB,
];
pub const F64: [u64; 13] = [
    0,
    1 << 63,
    1,
    0x000F_FFFF_FFFF_FFFF,
    0x0010_0000_0000_0000,
    0x3FF0_0000_0000_0000,
    0xBFF0_0000_0000_0001,
    0x7FEF_FFFF_FFFF_FFFF,
    0x7FF0_0000_0000_0000,
    0xFFF0_0000_0000_0000,
    0x7FF8_0000_0000_0001,
    0x3690_0000_0000_0001,
    0x47EF_FFFF_F000_0000,
];
pub const INTEGERS: [u64; 14] = [
    0,
    1,
    2,
    7,
    31,
    32,
    63,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    u64::MAX,
];

pub fn pairs<T: Copy>(values: &[T]) -> (Vec<T>, Vec<T>) {
    let all = values.iter().flat_map(|&a| values.iter().map(move |&b| (a, b)));
    all.unzip()
}

/// Loads `A` and `B`, does the instruction and stores `C`, each with a type of memory.
fn body(a: &str, b: &str, c: &str, instruction: &str) -> String {
    let register = |ty: &str, number: u32| match ty {
        "u16" | "f16" => format!("%h{number}"),
        "u32" | "s32" => format!("%r{number}"),
        "f32" => format!("%f{number}"),
        "f64" => format!("%g{number}"),
        _ => format!("%d{number}"),
    };
    let bytes = |ty: &str| ty[1..].parse::<u32>().unwrap() / 8;
    let memory = |ty: &str| if ty == "f16" { "b16".to_owned() } else { ty.to_owned() };
    let (ra, rb, rc) = (register(a, 1), register(b, 2), register(c, 3));
    let done = instruction.replace('A', &ra).replace('B', &rb).replace('C', &rc);
    let load = |number: u32, ty: &str, to: &str| {
        format!(
            "mul.wide.u32 %d8, %r8, {}; add.s64 %d8, %a{number}, %d8; ld.global.{} {to}, [%d8];\n",
            bytes(ty),
            memory(ty)
        )
    };
    format!(
        "mov.u32 %r7, %ctaid.x; mov.u32 %r6, %ntid.x; mov.u32 %r8, %tid.x;\n\
         mad.lo.s32 %r8, %r7, %r6, %r8;\n{}{}{done}\nmul.wide.u32 %d8, %r8, {}; \
         add.s64 %d8, %a2, %d8; st.global.{} [%d8], {rc};",
        load(0, a, &ra),
        load(1, b, &rb),
        bytes(c),
        memory(c)
    )
}

/// Runs an instruction over pairs.
pub fn run<A: Copy, B: Copy, C: Copy + Default>(
    types: [&str; 3],
    instruction: &str,
    a: &[A],
    b: &[B],
) -> Vec<C> {
    let device = device();
    let [ta, tb, tc] = types;
    let kernel: Kernel = device.kernel(&text(3, &body(ta, tb, tc, instruction)), "k");
    let (pa, pb) = (device.upload(a), device.upload(b));
    let pc = device.allocate(a.len() * size_of::<C>());
    let parameters = [pa, pb, pc].map(u64::to_le_bytes);
    let parameters: Vec<&[u8]> = parameters.iter().map(|bytes| &bytes[..]).collect();
    let code = device.run(kernel, [a.len() as u32, 1, 0], &parameters);
    assert_eq!(code, 0, "{instruction}: {}", trouble());
    device.download(pc, a.len())
}

pub fn bits32(x: f32) -> u32 {
    if x.is_nan() { 0x7FFF_FFFF } else { x.to_bits() }
}

pub fn bits64(x: f64) -> u64 {
    if x.is_nan() { 0x7FFF_FFFF_FFFF_FFFF } else { x.to_bits() }
}
