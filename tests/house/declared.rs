//! The functions that `include/adamw.h` declares.

/// Each function of a header, with whether a comment ends on the line above it.
pub fn functions(header: &str) -> Vec<(&str, bool)> {
    let mut above = "";
    let mut functions = Vec::new();
    for line in header.lines() {
        let declared = line.split_once('(').filter(|_| !line.starts_with([' ', '#', '/', '*']));
        let name = declared.and_then(|(head, _)| head.rsplit([' ', '*']).next());
        if let Some(name) = name.filter(|name| name.starts_with("adamw_")) {
            functions.push((name, above.starts_with("//")));
        }
        above = line;
    }
    functions
}

#[test]
fn functions_are_told_from_callbacks_and_text() {
    let header = "// Text.\nconst char *adamw_a(void);\n\nadamw_status adamw_b(int x,\n    int y);\n\
                  typedef int (*adamw_callback)(void);\n// adamw_c(\n#define adamw_d(x) x\n";
    assert_eq!(functions(header), [("adamw_a", true), ("adamw_b", false)]);
}
