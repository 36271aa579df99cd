//! `include/adamw.h`, generated: cbindgen translates each declaration of `src/ffi`, and the declarations are
//! put in the order in which `src/ffi/mod.rs` lists its files, and in which they stand in them.
//!
//! A file that `src/ffi/mod.rs` lists under `// == Title` belongs to that section of the header; the comment
//! lines below the title are the section's introduction. What a file re-exports (`pub use`) stands where
//! it does so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A part of the header under one title.
struct Section {
    title: String,
    introduction: Vec<String>,
    files: Vec<String>,
}

/// One declaration with its comment, and its name.
struct Declaration {
    name: String,
    text: String,
}

/// A section, a file of it, and a line of that.
type Place = (usize, usize, usize);

/// The whole header.
pub fn header(root: &Path, conventions: &str, version: &str) -> String {
    let sections = sections(&read(&root.join("src/ffi/mod.rs")));
    let places = places(root, &sections);
    let mut declarations: Vec<(Place, Declaration)> = declarations(&translated(root, &sections))
        .into_iter()
        .map(|declaration| {
            let place = places.get(&declaration.name);
            (*place.unwrap_or_else(|| panic!("{} is in no section", declaration.name)), declaration)
        })
        .collect();
    declarations.sort_by_key(|(place, _)| *place);
    let mut header =
        format!("{}\n", conventions.replace("{INDEX}", &index(&sections, &declarations)));
    header += "\n#ifndef ADAMW_H\n#define ADAMW_H\n\n#include <stddef.h>\n#include <stdint.h>\n\n";
    header += version;
    header += "\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n";
    for (number, section) in sections.iter().enumerate() {
        header +=
            &format!("\n/* ---- {} {} */\n", section.title, "-".repeat(88 - section.title.len()));
        if !section.introduction.is_empty() {
            header += "\n";
        }
        for line in &section.introduction {
            header += format!("// {line}").trim_end();
            header += "\n";
        }
        let mut is_after_constant = false;
        for (_, declaration) in declarations.iter().filter(|(place, _)| place.0 == number) {
            let is_constant = declaration.text.lines().last().unwrap().starts_with("#define");
            let opens = declaration.text.lines().last().unwrap().starts_with("typedef ")
                && !declaration.text.contains('{')
                && !declaration.text.contains('(');
            if !(is_constant && is_after_constant) {
                header += "\n";
            }
            header += &declaration.text;
            is_after_constant = is_constant || opens;
        }
    }
    header + "\n#ifdef __cplusplus\n} /* extern \"C\" */\n#endif\n\n#endif /* ADAMW_H */\n"
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sections(modules: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in modules.lines() {
        if let Some(title) = line.strip_prefix("// == ") {
            let title = title.to_owned();
            sections.push(Section { title, introduction: Vec::new(), files: Vec::new() });
        } else if let Some(section) = sections.last_mut() {
            if let Some(comment) = line.strip_prefix("//").filter(|_| section.files.is_empty()) {
                section.introduction.push(comment.trim_start().to_owned());
            } else if let Some(file) =
                line.strip_prefix("mod ").and_then(|line| line.strip_suffix(';'))
            {
                section.files.push(file.to_owned());
            }
        }
    }
    assert!(sections.len() > 5, "src/ffi/mod.rs lists no sections");
    sections
}

/// Where each name is declared or re-exported.
fn places(root: &Path, sections: &[Section]) -> BTreeMap<String, Place> {
    let mut places = BTreeMap::new();
    for (i, section) in sections.iter().enumerate() {
        for (k, file) in section.files.iter().enumerate() {
            let text = read(&root.join(format!("src/ffi/{file}.rs")));
            for (line, text) in
                text.lines().enumerate().filter(|(_, line)| line.starts_with("pub "))
            {
                for name in text.split(|c: char| !(c.is_alphanumeric() || c == '_')) {
                    let name = in_c(name);
                    if name.to_ascii_lowercase().starts_with("adamw_") {
                        places.entry(name.to_owned()).or_insert((i, k, line));
                    }
                }
            }
        }
    }
    places
}

fn in_c(name: &str) -> &str {
    match name {
        "Optimizer" => "adamw_optimizer",
        "Status" => "adamw_status",
        "Team" => "adamw_team",
        name => name,
    }
}

/// What cbindgen makes of the sources.
fn translated(root: &Path, sections: &[Section]) -> String {
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let mut files: Vec<PathBuf> = [
        "error/status",
        "callback",
        "callback/all_reduce",
        "callback/checkpoint",
        "callback/device_memory",
        "callback/next_piece",
    ]
    .map(|file| root.join(format!("src/{file}.rs")))
    .to_vec();
    files.extend(
        sections
            .iter()
            .flat_map(|section| &section.files)
            .map(|file| root.join(format!("src/ffi/{file}.rs"))),
    );
    let builder =
        files.iter().fold(cbindgen::Builder::new(), |builder, file| builder.with_src(file));
    let mut header = Vec::new();
    builder.with_config(config).generate().unwrap().write(&mut header);
    // Rust's heading for what a caller vouches for means nothing to a reader of C.
    let header = String::from_utf8(header).unwrap();
    without_fences(&header.replace("/// # Safety", "/// The caller ensures:"))
}

/// Comments whose code is indented by four, and not between fences.
fn without_fences(header: &str) -> String {
    let mut inside = false;
    let mut lines = String::new();
    for line in header.lines() {
        if line.starts_with("/// ```") {
            inside = !inside;
        } else if let Some(code) = line.strip_prefix("/// ").filter(|_| inside) {
            lines += &format!("///     {code}\n");
        } else {
            lines += &format!("{line}\n");
        }
    }
    lines
}

/// Cuts cbindgen's output, which has a blank line after each declaration.
fn declarations(header: &str) -> Vec<Declaration> {
    let opaque = [
        ("adamw_optimizer", "An optimizer: a handle from `adamw_create`, opaque to the host."),
        ("adamw_team", "Threads that handles share: a handle from `adamw_team_create`."),
    ];
    let mut declarations: Vec<_> = opaque
        .map(|(name, comment)| Declaration {
            name: name.into(),
            text: format!("/// {comment}\ntypedef struct {name} {name};\n"),
        })
        .into();
    let mut text = String::new();
    for line in header.lines().chain([""]) {
        if line.starts_with("#include") {
            continue;
        }
        if !line.is_empty() {
            text += line;
            text += "\n";
            continue;
        }
        if let Some(name) = name(&text) {
            let text =
                if name == "adamw_status" { status(&text) } else { core::mem::take(&mut text) };
            declarations.push(Declaration { name, text });
        }
        text.clear();
    }
    declarations
}

/// The name that a declaration gives.
fn name(text: &str) -> Option<String> {
    let declared = text.lines().find(|line| !line.starts_with("//"))?;
    let words = declared.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    let mut names = words.filter(|word| word.to_ascii_lowercase().starts_with("adamw_"));
    let name = match declared.starts_with("typedef ")
        && declared.ends_with(';')
        && !declared.contains('(')
    {
        true => names.next_back(),
        // A function's is the one before its parenthesis.
        false if !declared.starts_with("typedef ") && declared.contains('(') => {
            let head = declared.split('(').next()?;
            head.rsplit([' ', '*']).next()
        }
        false => names.next(),
    };
    name.map(str::to_owned)
}

/// The status is an int32_t, whatever size a compiler gives to an enumeration: its constants are those of
/// an enumeration of another name.
fn status(text: &str) -> String {
    let comments: String = text
        .lines()
        .take_while(|line| line.starts_with("///"))
        .map(|line| format!("{line}\n"))
        .collect();
    let constants: String = text
        .lines()
        .filter(|line| line.starts_with("  /") || line.starts_with("  A"))
        .map(|line| format!("{line}\n"))
        .collect();
    format!("{comments}typedef int32_t adamw_status;\nenum adamw_status_code {{\n{constants}}};\n")
}

/// The functions of each section.
fn index(sections: &[Section], declarations: &[(Place, Declaration)]) -> String {
    let mut index = String::new();
    for (number, section) in sections.iter().enumerate() {
        let functions = declarations.iter().filter(|(place, declaration)| {
            place.0 == number
                && declaration.text.trim_end().ends_with(");")
                && !declaration.text.contains("typedef")
        });
        let names: Vec<&str> =
            functions.map(|(_, function)| function.name.trim_start_matches("adamw_")).collect();
        let mut line = format!(" *   {}:", section.title);
        for (i, name) in names.iter().enumerate() {
            let end = if i + 1 < names.len() { "," } else { "" };
            if line.len() + name.len() + 2 > 100 {
                index += &format!("{line}\n");
                line = " *      ".to_owned();
            }
            line += &format!(" {name}{end}");
        }
        index += &format!("{line}\n");
    }
    index.trim_end().to_owned()
}
