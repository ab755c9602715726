//! What a run writes besides its JSON: a page and distributions; and the comparison of two runs.

use std::path::PathBuf;
use std::process::Command;

use scraper::{ElementRef, Html, Selector};

use crate::fake_nakama::{FakeNakama, Fault};
use crate::{MESSAGES, loadgen};

/// A directory for one test; it is deleted afterwards.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("loadgen-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn page_of(fault: Fault, more: &[&str]) -> (Option<i32>, Html, String) {
    let directory = Directory::new(&format!("page-{fault:?}"));
    let server = FakeNakama::start(fault);
    let file = directory.file("report.html");
    let output = loadgen(&server, &["--secs", "2.5", "--html", &file]).args(more).output().unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    (output.status.code(), Html::parse_document(&text), text)
}

pub fn all<'a>(page: &'a Html, selector: &str) -> Vec<ElementRef<'a>> {
    page.select(&Selector::parse(selector).unwrap()).collect()
}

pub fn text(element: ElementRef<'_>) -> String {
    element.text().collect::<String>().trim().to_owned()
}

/// The value beside a name, in the table that has it.
fn value(page: &Html, name: &str) -> String {
    let cell = Selector::parse("td").unwrap();
    let row = all(page, "tr").into_iter().find(|row| row.child_elements().next().is_some_and(|th| text(th) == name));
    text(row.unwrap_or_else(|| panic!("no row {name}")).select(&cell).next().unwrap())
}

#[test]
fn a_page_needs_nothing_else_and_shows_the_run() {
    let own = std::process::id().to_string();
    let more = ["--room", "<b>&\"loud\"</b>", "--server-key", "defaultkey", "--warmup", "1", "--pid", &own];
    let (code, page, source) = page_of(Fault::None, &more);
    assert_eq!(code, Some(0), "{source}");
    assert_eq!(page.errors, Vec::<String>::new(), "the page is whole");
    assert!(all(&page, "script, link, img, iframe, main b").is_empty(), "nothing is fetched, run, or let through");
    assert!(!source.contains("url(") && !source.contains("@import") && !source.contains("defaultkey"));

    assert_eq!(text(all(&page, "h1")[0]), "loadgen room");
    assert!(text(all(&page, ".verdict.passed")[0]).starts_with("PASSED: "));
    assert!(text(all(&page, "header p")[0]).contains("loud"), "the room is named");
    let command = text(all(&page, "pre code")[0]);
    assert!(command.contains("--warmup 1") && command.contains("--server-key (not shown)"), "{command}");
    // 200 messages a second, warm-up included, to each of 20 members.
    assert_eq!(value(&page, "delivered"), "14,000");
    assert_eq!(value(&page, "missing"), "0");
    assert_eq!(value(&page, "seed"), "1");
    assert!(value(&page, "kernel").starts_with("Linux "));

    let titles: Vec<String> = all(&page, "figure h2").into_iter().map(text).collect();
    for title in ["Latency over percentiles", "Deliveries", "Messages", "Present", "CPU", "Memory"] {
        assert!(titles.iter().any(|found| found == title), "{title}: {titles:?}");
    }
    assert!(!titles.iter().any(|title| title == "Faults"), "there were none");
    let line = Selector::parse("polyline").unwrap();
    for drawing in all(&page, "figure svg") {
        let points = drawing.select(&line).map(|line| line.attr("points").unwrap_or_default().split(' ').count());
        assert!(points.max() >= Some(2), "every chart has a line: {}", drawing.html());
    }
    assert_eq!(all(&page, "figure .wide svg").len(), titles.len());
    assert_eq!(all(&page, "figure .narrow svg").len(), titles.len());
    let marks: Vec<String> = all(&page, "figure")[1].select(&Selector::parse(".marks li").unwrap()).map(text).collect();
    assert_eq!(marks, ["joining", "warm-up", "measured", "last deliveries"]);
}

#[test]
fn a_page_names_what_went_wrong() {
    let (code, page, source) = page_of(Fault::Drop, &[]);
    assert_eq!(code, Some(1), "{source}");
    let faults: Vec<String> = all(&page, ".verdict.failed li").into_iter().map(text).collect();
    assert_eq!(faults, ["1 missing"]);
    assert_eq!(all(&page, ".faulty").into_iter().map(text).collect::<Vec<_>>(), ["missing1"]);
    assert!(all(&page, ".verdict.passed").is_empty());
}

#[test]
fn distributions_are_written_where_they_are_wanted() {
    let directory = Directory::new("distributions");
    let server = FakeNakama::start(Fault::None);
    let output = loadgen(&server, &["--secs", "0.5", "--hgrm", &directory.file("all")]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let lag = std::fs::read_to_string(directory.file("all/generator-lag.hgrm")).unwrap();
    let stamps: u64 = lag.split("Total count    =").nth(1).unwrap().split(']').next().unwrap().trim().parse().unwrap();
    assert!(stamps > 0, "{lag}");
    let lateness = std::fs::read_to_string(directory.file("all/generator-lateness.hgrm")).unwrap();
    assert!(lateness.contains(&format!("Total count    = {MESSAGES:12}]")), "{lateness}");
}

#[test]
fn a_condition_fails_a_run_that_is_faultless_otherwise() {
    let server = FakeNakama::start(Fault::None);
    for (condition, exit_code, said) in [
        ("deliveries/s>0", 1, "--fail-if 'deliveries/s>0': it is "),
        ("missing>0", 0, "PASSED"),
        ("last member max>0s", 1, "--fail-if 'last member max>0s'"),
        ("speed>9", 2, "allowed are p50"),
        ("page p99>9s", 2, "delivery, ack, last member"),
    ] {
        let output = loadgen(&server, &["--secs", "0.5", "--fail-if", condition]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), text.contains(said)), (Some(exit_code), true), "{condition}: {text}");
    }
}

#[test]
fn two_runs_are_compared() {
    let directory = Directory::new("diff");
    let server = FakeNakama::start(Fault::None);
    let (before, after) = (directory.file("before.json"), directory.file("after.json"));
    for (file, secs) in [(&before, "0.5"), (&after, "1")] {
        assert_eq!(loadgen(&server, &["--secs", secs, "--json", file]).status().unwrap().code(), Some(0));
    }
    let compare = |one: &str, other: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_loadgen")).args(["diff", one, other]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = compare(&before, &after);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Not the same run: ") && text.contains("secs 0.5 and 1.0"), "{text}");
    assert!(text.contains("messages: scheduled"), "{text}");
    assert!(text.contains("too short to tell"), "{text}");
    let (code, text) = compare(&before, &before);
    assert!(code == Some(0) && !text.contains("Not the same run") && !text.contains("messages: "), "{text}");
    assert_eq!(compare(&before, "/dev/null").0, Some(1));
}
