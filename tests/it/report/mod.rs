//! Pages and figures: what they say, that they are self-contained, and how a browser shows them.

mod browser;
mod examples;
mod figures;
mod lines;
mod matrix;
mod ranking;

pub use browser::chromium;

/// Nothing on a page is fetched, and nothing is executed.
#[track_caller]
fn is_self_contained(html: &str) {
    let inside = html
        .replace("http://www.w3.org/2000/svg", "")
        .replace("href=\"#", "")
        .replace("href=\"data:image/png;base64,", "");
    for foreign in ["http:", "https:", "src=", "href=", "<script", "<link", "@import", "url(", "onload"] {
        assert!(!inside.contains(foreign), "contains {foreign}");
    }
}

/// Whether a text is well-formed as XML, so far as elements go: each is closed in its turn.
#[track_caller]
fn is_well_formed(svg: &str) {
    let mut open = Vec::new();
    for tag in svg.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').expect("a tag is closed");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{svg}");
        } else if !tag.ends_with('/') && !tag.starts_with('?') {
            open.push(tag.split(' ').next().unwrap_or(tag));
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes of {tag}");
    }
    assert!(open.is_empty(), "{open:?} is left open");
}
