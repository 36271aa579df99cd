//! The source itself: its order, the pages, the header and what the library exports.

mod architecture;
mod code;
mod declared;
mod disassembly;
mod docs;
mod generated;
mod header;
mod library;
mod loops;
mod map;
mod packages;
mod structs;
