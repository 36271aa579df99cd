//! The pages keep their promises: the README stays short, every table renders, every link and path
//! leads somewhere, and every block is run by a test, or part of a program that the tests run.

use std::fs::{read_dir, read_to_string};
use std::path::{Path, PathBuf};

const MOST_LINES: usize = 150;
const MOST_WORDS: usize = 1_500;
const WIDTH: usize = 100;
const MINIMAL_LINES: usize = 50;

/// Folders whose programs CTest runs.
const PROGRAMS: [&str; 5] =
    ["examples-c", "examples-c/consumer", "tests/c", "tests/cpp", "tests/install/engine"];

/// Tests that run all the blocks of a page in a language, as they stand there.
const RUN: [(&str, &str, &str); 12] = [
    ("README.md", "cmake", "tests/install/pages.sh"),
    ("README.md", "python", "tests/python/readme.py"),
    ("docs/embedding.md", "sh", "tests/install/pages.sh"),
    ("docs/other-frameworks.md", "python", "tests/python/package/test_docs.py"),
    ("docs/other-frameworks.md", "sh", "tests/python/package/test_docs.py"),
    ("docs/other-frameworks.md", "text", "tests/python/package/test_docs.py"),
    ("docs/paddle.md", "python", "tests/python/peers/paddle_docs.py"),
    ("docs/python.md", "python", "tests/python/package/test_docs.py"),
    ("docs/python.md", "sh", "tests/python/package/test_docs.py"),
    ("docs/pytorch.md", "python", "tests/python/peers/torch_docs.py"),
    ("docs/pytorch.md", "text", "tests/python/package/test_docs.py"),
    ("python/README.md", "python", "tests/python/package/test_docs.py"),
];

/// What the path of a file of the repository begins with.
const PLACES: [&str; 13] = [
    ".ci/",
    "benches/",
    "cmake/",
    "docs/",
    "examples/",
    "examples-c/",
    "fuzz/",
    "include/",
    "packaging/",
    "python/",
    "src/",
    "tests/",
    "tools/",
];

/// What `tests/gpu/run.sh` writes: nobody wraps its lines.
const REPORT: &str = "docs/gpu.md";

struct Page {
    /// From the root of the repository.
    path: String,
    text: String,
}

fn inside(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn page(path: &str) -> Page {
    Page { path: path.to_owned(), text: read_to_string(inside(path)).unwrap() }
}

fn files(folder: &str, endings: &[&str]) -> Vec<String> {
    let names = read_dir(inside(folder)).unwrap().map(|entry| entry.unwrap().file_name());
    let paths = names.map(|name| format!("{folder}/{}", name.to_str().unwrap()));
    let mut paths: Vec<String> =
        paths.filter(|path| endings.iter().any(|ending| path.ends_with(ending))).collect();
    paths.sort();
    paths
}

/// What is in the book, but for the changes, and the page of the Python package.
fn pages_with_blocks() -> Vec<Page> {
    let others = ["python/README.md", "tests/cuda-standin/README.md"];
    pages().into_iter().chain(others.map(page)).collect()
}

fn pages() -> Vec<Page> {
    let first = ["README.md", "CONTRIBUTING.md"].map(str::to_owned);
    let written = files("docs", &[".md"]).into_iter().filter(|path| path != REPORT);
    first.into_iter().chain(written).map(|path| page(&path)).collect()
}

#[track_caller]
fn assert_none(broken: Vec<String>) {
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

// ---------------------------------------------------------------------------------- blocks

/// The blocks between fences, with the language that each says.
fn blocks(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut blocks: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        match (line.strip_prefix("```"), open) {
            (Some(language), false) => {
                blocks.push((language, Vec::new()));
                open = true;
            }
            (Some(_), true) => open = false,
            (None, true) => blocks.last_mut().unwrap().1.push(line),
            (None, false) => {}
        }
    }
    blocks
}

/// The lines that are not between fences, with their numbers.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut open = false;
    let outside = text.lines().enumerate().filter(|(_, line)| {
        let fence = line.starts_with("```");
        open ^= fence;
        !open && !fence
    });
    outside.map(|(at, line)| (at + 1, line)).collect()
}

fn without_indent(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| line.trim().to_owned()).collect()
}

/// Blocks that no test runs, and that are not, but for their indent, part of one of the programs.
fn strange_blocks(page: &Page, programs: &[Vec<String>]) -> Vec<String> {
    let is_run = |language: &str| RUN.iter().any(|run| (run.0, run.1) == (&page.path, language));
    let is_part = |lines: &[String]| {
        programs.iter().any(|program| program.windows(lines.len()).any(|window| window == lines))
    };
    let blocks = blocks(&page.text).into_iter().filter(|(language, _)| !is_run(language));
    let strange = blocks.filter(|(_, lines)| lines.is_empty() || !is_part(&without_indent(lines)));
    strange.map(|(_, lines)| format!("{}:\n{}", page.path, lines.join("\n"))).collect()
}

#[test]
fn every_block_is_run_or_part_of_a_program_that_the_tests_run() {
    let paths =
        PROGRAMS.iter().flat_map(|folder| files(folder, &[".c", ".cpp", "/CMakeLists.txt"]));
    let programs: Vec<Vec<String>> = paths
        .map(|path| {
            without_indent(&read_to_string(inside(&path)).unwrap().lines().collect::<Vec<_>>())
        })
        .collect();
    let pages = pages_with_blocks();
    assert_none(pages.iter().flat_map(|page| strange_blocks(page, &programs)).collect());
}

#[test]
fn what_runs_blocks_names_their_page() {
    let names = |&&(path, language, test): &&(&str, &str, &str)| {
        let blocks = page(path).text.contains(&format!("```{language}\n"));
        let name = path.rsplit('/').next().unwrap();
        blocks && read_to_string(inside(test)).unwrap().contains(name)
    };
    let broken = RUN.iter().filter(|run| !names(run));
    assert_none(
        broken.map(|run| format!("{} does not run {} of {}", run.2, run.1, run.0)).collect(),
    );
}

#[test]
fn the_readme_opens_with_a_whole_program_that_is_short() {
    let minimal = read_to_string(inside("examples-c/minimal.c")).unwrap();
    let readme = page("README.md");
    assert_eq!(blocks(&readme.text)[0], ("c", minimal.lines().collect()));
    assert!(minimal.lines().count() < MINIMAL_LINES);
}

#[test]
fn a_block_that_no_test_runs_and_no_program_has_is_found() {
    let program = [without_indent(&["int main(void) {", "  a();", "  b();", "}"])];
    let of = |path: &str, text: &str| {
        strange_blocks(&Page { path: path.into(), text: text.into() }, &program).len()
    };
    let strange = |text: &str| of("x.md", text);
    assert_eq!(strange("```c\na();\nb();\n```\n"), 0);
    assert_eq!(strange("```c\nb();\na();\n```\n"), 1);
    assert_eq!(strange("```cpp\na()\n```\n```c\n```\n"), 2);
    assert_eq!(strange("```cmake\nc()\n```\n"), 1);
    assert_eq!(strange("```\nc()\n```\n"), 1);
    assert_eq!(of("docs/python.md", "```python\nc()\n```\n```cmake\nc()\n```\n"), 1);
}

// ---------------------------------------------------------------------------------- form

fn is_row(line: &str) -> bool {
    line.trim_start().starts_with('|')
}

/// How many cells a row of a table has.
fn cells(row: &str) -> usize {
    row.trim().replace("\\|", "").matches('|').count() - 1
}

fn is_separator(row: &str) -> bool {
    let inner = row.trim().trim_matches('|').split('|');
    inner.into_iter().all(|cell| {
        let dashes = cell.trim().trim_matches(':');
        !dashes.is_empty() && dashes.chars().all(|c| c == '-')
    })
}

/// Tables without a separator as their second row, or with rows of another number of cells.
fn broken_tables(page: &Page) -> Vec<String> {
    let lines = prose(&page.text);
    let mut broken = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let length = lines[at..].iter().take_while(|(_, line)| is_row(line)).count();
        let rows = &lines[at..at + length];
        if length > 0 && !rows.get(1).is_some_and(|(_, row)| is_separator(row)) {
            broken.push(format!("{}:{}: no |---| row below this one", page.path, rows[0].0));
        }
        for (number, row) in rows.iter().filter(|(_, row)| cells(row) != cells(rows[0].1)) {
            broken
                .push(format!("{}:{number}: not as many cells as the first row: {row}", page.path));
        }
        at += length.max(1);
    }
    broken
}

/// Lines that are too wide: in the README all of them, elsewhere all but rows of tables and links.
fn wide_lines(page: &Page) -> Vec<String> {
    let may_be_wide =
        |line: &str| page.path != "README.md" && (is_row(line) || line.contains("]("));
    let lines = page.text.lines().enumerate();
    let wide = lines.filter(|(_, line)| line.chars().count() > WIDTH && !may_be_wide(line));
    wide.map(|(at, line)| format!("{}:{}: {line}", page.path, at + 1)).collect()
}

#[test]
fn the_readme_has_at_most_150_lines_and_1500_words() {
    let text = page("README.md").text;
    let (lines, words) = (text.lines().count(), text.split_whitespace().count());
    assert!(lines <= MOST_LINES && words <= MOST_WORDS, "{lines} lines, {words} words");
}

#[test]
fn every_table_renders() {
    assert_none(pages().iter().flat_map(broken_tables).collect());
}

#[test]
fn no_line_is_wider_than_100() {
    assert_none(pages().iter().flat_map(wide_lines).collect());
}

#[test]
fn broken_tables_and_wide_lines_are_found() {
    let of = |path: &str, text: &str| Page { path: path.into(), text: text.into() };
    let tables = |text: &str| broken_tables(&of("docs/x.md", text)).len();
    assert_eq!(tables("| a | b |\n|---|:--|\n| 1 | 2 |\n"), 0);
    assert_eq!(tables("| a | b |\n| 1 | 2 |\n"), 1);
    assert_eq!(tables("| a | b |\n|---|\n| 1 | 2 |\n"), 1);
    assert_eq!(tables("| a | b |\n|---|---|\n| 1 |\n"), 1);
    assert_eq!(tables("| a \\| b |\n|---|\n\n| a |"), 1);
    assert_eq!(tables("```\n| a |\n```\n"), 0);
    let wide = |path: &str, text: &str| wide_lines(&of(path, text)).len();
    let long = "x".repeat(WIDTH + 1);
    assert_eq!(wide("docs/x.md", &long), 1);
    assert_eq!(wide("docs/x.md", &long[1..]), 0);
    for allowed in [format!("| {long} |"), format!("[{long}](y)")] {
        assert_eq!([wide("docs/x.md", &allowed), wide("README.md", &allowed)], [0, 1]);
    }
}

// ---------------------------------------------------------------------------------- links

/// A heading as the part of a link behind `#`.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

fn has_heading(text: &str, wanted: &str) -> bool {
    let lines = prose(text).into_iter().map(|(_, line)| line);
    let mut headings = lines.filter(|line| line.starts_with('#'));
    headings.any(|line| anchor(line.trim_start_matches('#').trim_start()) == wanted)
}

/// Links into the repository that lead to no file or no heading.
fn dead_links(page: &Page) -> Vec<String> {
    let folder = inside(&page.path).parent().unwrap().to_owned();
    let leads_somewhere = |target: &str| {
        let (file, heading) = target.split_once('#').unwrap_or((target, ""));
        let file = if file.is_empty() { inside(&page.path) } else { folder.join(file) };
        let found = |heading: &str| has_heading(&read_to_string(&file).unwrap(), heading);
        file.exists() && (heading.is_empty() || found(heading))
    };
    let prose: Vec<&str> = prose(&page.text).into_iter().map(|(_, line)| line).collect();
    let prose = prose.join("\n");
    let targets = prose.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    let dead = targets.filter(|target| !target.contains("://") && !leads_somewhere(target));
    dead.map(|target| format!("{}: {target}", page.path)).collect()
}

/// Paths between backticks that are none of the repository. A `*` stands for what is there.
fn dead_paths(page: &Page) -> Vec<String> {
    let quoted = page.text.split('`').skip(1).step_by(2);
    let paths = quoted.filter(|path| PLACES.iter().any(|place| path.starts_with(place)));
    let exists = |path: &&str| {
        let end = path.find([' ', '*']).unwrap_or(path.len());
        let whole = end == path.len() || path[end..].starts_with(' ');
        let fixed = if whole { &path[..end] } else { path[..end].rsplit_once('/').unwrap().0 };
        inside(fixed).exists()
    };
    paths.filter(|path| !exists(path)).map(|path| format!("{}: {path}", page.path)).collect()
}

/// Targets between backticks that make does not have.
fn dead_targets(page: &Page) -> Vec<String> {
    let makefile = read_to_string(inside("Makefile")).unwrap();
    let quoted = page.text.split('`').skip(1).step_by(2);
    let targets = quoted.filter_map(|code| code.strip_prefix("make ")?.split(' ').next());
    let dead = targets.filter(|target| !makefile.contains(&format!("\n{target}:")));
    dead.map(|target| format!("{}: make {target}", page.path)).collect()
}

#[test]
fn every_link_every_path_and_every_target_leads_somewhere() {
    let dead = |page: &Page| [dead_links(page), dead_paths(page), dead_targets(page)].concat();
    assert_none(pages().iter().flat_map(dead).collect());
}

#[test]
fn the_readme_and_the_book_have_every_page() {
    let (readme, book) = (page("README.md").text, page("tools/docs/contents.md").text);
    let unlinked = |page: &Page| {
        let in_book = book.lines().any(|line| page.path.strip_suffix(".md") == Some(line));
        !in_book || !readme.contains(&format!("]({}", page.path))
    };
    let docs = pages().into_iter().filter(|page| page.path.starts_with("docs/"));
    assert_none(docs.filter(unlinked).map(|page| page.path).collect());
}

#[test]
fn dead_links_and_paths_are_found() {
    let of = |text: &str| Page { path: "docs/x.md".into(), text: text.into() };
    let links = |text: &str| dead_links(&of(text)).len();
    assert_eq!(links("[a](peers.md) [b](../README.md#conventions) [c](https://x.org/y)"), 0);
    assert_eq!(links("[a](nothing.md) [b](../README.md#nothing)"), 2);
    let paths = |text: &str| dead_paths(&of(text)).len();
    assert_eq!(paths("`src/math.rs` `src/cpu/*.rs` `tests/gpu/run.sh --small` `make`"), 0);
    assert_eq!(paths("`src/nothing.rs` `src/nothing/*.rs` `tests/none.sh --dry`"), 3);
    assert_eq!(dead_targets(&of("`make` `make test` `make tea` `make bench BEFORE=1`")).len(), 1);
}
