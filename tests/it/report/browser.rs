//! Pages in a real browser: Chromium, where it is installed.

use std::{path::Path, process::Command};

use super::figures::everything;

/// What a page in a browser window of this width says of itself.
const PROBE: &str = r#"<script>
window.problems = [];
window.addEventListener("error", event => window.problems.push("error: " + event.message));
document.addEventListener("securitypolicyviolation", event => window.problems.push("blocked: " + event.blockedURI));
window.addEventListener("load", () => {
  document.querySelectorAll("details").forEach(details => { details.open = true; });
  const root = document.documentElement;
  const seen = svg => { const box = svg.getBoundingClientRect(); return box.width > 20 && box.height > 10; };
  const wide = [...document.querySelectorAll("body *")].filter(element =>
    !element.closest(".scroll svg") && element.getBoundingClientRect().right > root.clientWidth + 1);
  const found = {
    width: root.clientWidth,
    overflow: root.scrollWidth - root.clientWidth,
    wide: wide.slice(0, 5).map(element => element.outerHTML.slice(0, 80)),
    svgs: document.querySelectorAll("svg").length,
    unseen: [...document.querySelectorAll("svg")].filter(svg => !seen(svg)).length,
    images: document.querySelectorAll("image").length,
    ink: getComputedStyle(document.body).color,
    page: getComputedStyle(document.body).backgroundColor,
    problems: window.problems,
  };
  parent.postMessage(JSON.stringify(found), "*");
});
</script>"#;

/// A page that shows another in a frame of `width` pixels, and writes what that says into its title: windows themselves cannot
/// be as narrow as a phone.
fn frame(width: u32) -> String {
    format!(
        r#"<body><iframe src="page.html" style="border:0;width:{width}px;height:4000px"></iframe><pre id="found"></pre><script>
window.addEventListener("message", event => {{ document.getElementById("found").textContent = event.data; }});
</script>"#
    )
}

/// Chromium's program; none, with a line that says so, where it is not installed.
pub fn chromium() -> Option<&'static str> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found =
        names.into_iter().find(|name| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success()));
    if found.is_none() {
        eprintln!("skipped: there is no chromium here; \"apt-get install chromium\" brings it");
    }
    found
}

/// What the page says of itself in a frame of `width` pixels.
fn shown(chromium: &str, html: &str, width: u32, dark: bool) -> serde_json::Value {
    let folder = tempfile::tempdir().unwrap();
    // The policy forbids scripts, and the page has none of its own: the probe needs leave.
    let allowed = html.replace("default-src 'none';", "default-src 'none'; script-src 'unsafe-inline';");
    assert_ne!(allowed, html);
    let probed = allowed.replacen("<title>", &format!("{PROBE}<title>"), 1);
    std::fs::write(folder.path().join("page.html"), probed).unwrap();
    let outer = folder.path().join("frame.html");
    std::fs::write(&outer, frame(width)).unwrap();
    let dom = dump(chromium, &outer, folder.path(), dark);
    let (_, rest) = dom.split_once("<pre id=\"found\">").unwrap_or_else(|| panic!("no answer in {dom}"));
    let text = rest.split_once("</pre>").unwrap().0.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

fn dump(chromium: &str, page: &Path, profile: &Path, dark: bool) -> String {
    let mut command = Command::new(chromium);
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--dump-dom",
        "--virtual-time-budget=10000",
    ]);
    command.arg(format!("--user-data-dir={}", profile.join("profile").display()));
    if dark {
        command.arg("--force-dark-mode");
    }
    let output = command.arg(format!("file://{}", page.display())).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn pages_fit_phones_and_desks_in_light_and_dark() {
    let Some(chromium) = chromium() else { return };
    let html = everything().html().unwrap();
    let mut colours = Vec::new();
    for (width, dark) in [(400, false), (1200, true)] {
        let found = shown(chromium, &html, width, dark);
        assert_eq!(found["width"], width, "{found}");
        assert_eq!((&found["overflow"], &found["wide"]), (&0.into(), &serde_json::json!([])), "{found}");
        assert_eq!(found["problems"], serde_json::json!([]), "{found}");
        assert_eq!(found["unseen"], 0, "{found}");
        assert_eq!(found["svgs"], html.matches("<svg").count(), "{found}");
        assert_eq!(found["images"], 2 * 3, "{found}");
        assert_ne!(found["ink"], found["page"], "{found}");
        colours.push(found["page"].clone());
    }
    assert_ne!(colours[0], colours[1], "the dark scheme has a page of its own");
}
