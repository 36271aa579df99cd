//! Images that are no text: which are refused, and which is taken for a text.

mod common;

use common::{KERNELS, device, set};
use cuda::driver::Out;
use cuda::driver::code::Code;
use cuda::driver::module::cuModuleLoadData;
use std::ffi::CStr;

/// The header of a fat binary, 16 bytes, and 8 bytes that it speaks of.
const IMAGE: [u8; 24] = *b"\x50\xED\x55\xBA\x01\0\x10\0\x08\0\0\0\0\0\0\0machine!";

#[repr(align(8))]
struct Aligned([u8; 32]);

/// What loading an image returns that lies so many bytes behind an aligned place.
fn load(image: &[u8], offset: usize) -> i32 {
    let mut place = Aligned([0; 32]);
    place.0[offset..][..image.len()].copy_from_slice(image);
    let mut module = 0;
    // SAFETY: only a text is looked at as one, and zeros are behind it.
    let start = unsafe { CStr::from_ptr(place.0[offset..].as_ptr().cast()) };
    let code = cuModuleLoadData(Out::from(&mut module), start.into());
    assert_eq!(module == 0, code != 0);
    code
}

#[test]
fn machine_code_is_refused_unless_a_setting_knows_it() {
    let _device = device();
    assert_eq!(load(b"\x7FELF", 0), Code::NO_BINARY_FOR_GPU.0);
    assert_eq!(load(&IMAGE, 0), Code::NO_BINARY_FOR_GPU.0);

    let folder = std::env::temp_dir().join(format!("standin-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let [known, ptx] = ["k.fatbin", "k.ptx"].map(|name| folder.join(name));
    std::fs::write(&known, IMAGE).unwrap();
    std::fs::write(&ptx, KERNELS).unwrap();
    assert_eq!(set("machine_code", "k.fatbin"), Code::INVALID_VALUE.0);
    assert_eq!(set("machine_code", &format!("{}={}", known.display(), ptx.display())), 0);
    assert_eq!(load(&IMAGE, 0), 0);
    assert_eq!(load(&IMAGE, 4), Code::INVALID_IMAGE.0);
    assert_eq!(load(&[&IMAGE[..23], b"?"].concat(), 0), Code::INVALID_IMAGE.0);
    assert_eq!(load(b"\x7FELF", 0), Code::NO_BINARY_FOR_GPU.0);
    assert_eq!(set("machine_code", "gone=gone"), 0);
    assert_eq!(load(&IMAGE, 0), Code::INVALID_VALUE.0);
    assert_eq!(set("machine_code", ""), 0);
    assert_eq!(load(&IMAGE, 0), Code::NO_BINARY_FOR_GPU.0);
    std::fs::remove_dir_all(&folder).unwrap();
}
