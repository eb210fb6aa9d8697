//! Attacked samples to look at.

use transferscore::report::{Example, ExamplesReport, Page, Part, Picture, examples_section};

fn picture(shape: &[usize], of: impl Fn(usize) -> f32) -> Picture {
    Picture::new(shape, (0..shape.iter().product()).map(of).collect()).unwrap()
}

fn example(shape: &[usize], delta: f32) -> Example {
    let pixel = |place: usize| 0.25 + 0.5 * (place % 2) as f32;
    Example {
        index: 7,
        clean: picture(shape, pixel),
        adversarial: picture(shape, |place| pixel(place) + if place == 0 { delta } else { -delta }),
        classes: Some(("four".to_owned(), "nine".to_owned())),
        label: Some("four".to_owned()),
        l2_norm: 0.5,
        linf_norm: f64::from(delta),
    }
}

pub fn report() -> ExamplesReport {
    ExamplesReport {
        model: "digits".to_owned(),
        attack: "PGD, L∞, radius 0.031".to_owned(),
        examples: vec![example(&[1, 2, 2], 0.03125), example(&[3, 5, 4], 0.0625)],
    }
}

fn page(report: &ExamplesReport) -> Page {
    let parts = vec![Part { title: String::new(), sections: vec![examples_section(report).unwrap()] }];
    Page { title: "Examples".to_owned(), summary: String::new(), parts }
}

/// Width, height, channels and bytes of every picture of a figure.
fn decoded(svg: &str) -> Vec<(u32, u32, usize, Vec<u8>)> {
    let texts = svg.split("data:image/png;base64,").skip(1).map(|rest| rest.split('"').next().unwrap());
    texts
        .map(|text| {
            let mut reader = png::Decoder::new(std::io::Cursor::new(from_base64(text))).read_info().unwrap();
            let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
            let info = reader.next_frame(&mut bytes).unwrap();
            bytes.truncate(info.buffer_size());
            (info.width, info.height, info.color_type.samples(), bytes)
        })
        .collect()
}

fn from_base64(text: &str) -> Vec<u8> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        other => panic!("{other} is no letter"),
    };
    assert_eq!(text.len() % 4, 0);
    let letters: Vec<u8> = text.trim_end_matches('=').bytes().map(value).collect();
    let bits = letters.iter().flat_map(|value| (0..6).rev().map(move |bit| value >> bit & 1));
    let bits: Vec<u8> = bits.collect();
    bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |byte, bit| byte << 1 | bit)).collect()
}

#[test]
fn samples_stand_beside_their_amplified_perturbation_and_what_comes_out() {
    let page = page(&report());
    let html = page.html().unwrap();
    super::is_self_contained(&html);
    for part in
        ["amplified 5 times around grey", "takes\n2 for something else", "PGD, L∞, radius 0.031", ">nine</text>", "× 5"]
    {
        assert!(html.contains(part), "lacks {part:?}");
    }
    let figures = page.figures();
    let names: Vec<&str> = figures.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["example-7.svg", "example-7-2.svg"], "no two share a name");

    let grey = decoded(&figures[0].1);
    assert_eq!(grey[0], (2, 2, 1, vec![64, 191, 64, 191]));
    // Grey, 5 · 8/255 up and down.
    assert_eq!(grey[1], (2, 2, 1, vec![167, 88, 88, 88]));
    assert_eq!(grey[2], (2, 2, 1, vec![72, 183, 56, 183]));

    let colours = decoded(&figures[1].1);
    assert_eq!((colours[0].0, colours[0].1, colours[0].2), (4, 5, 3));
    // A channel after another becomes pixel after pixel: places 0, 20 and 40 are even.
    assert_eq!(&colours[0].3[..6], &[64, 64, 64, 191, 191, 191]);
}

#[test]
fn large_pictures_are_made_smaller() {
    let mut report = report();
    report.examples = vec![Example {
        clean: picture(&[1, 600, 300], |place| if place / 300 < 300 { 0.0 } else { 1.0 }),
        adversarial: picture(&[1, 600, 300], |_| 0.5),
        ..example(&[1, 2, 2], 0.1)
    }];
    let pictures = decoded(&page(&report).figures()[0].1);
    let (width, height, _, bytes) = &pictures[0];
    assert_eq!((*width, *height), (100, 200));
    assert!(bytes[..100 * 100].iter().all(|byte| *byte == 0) && bytes[100 * 100..].iter().all(|byte| *byte == 255));
}

#[test]
fn what_is_no_picture_is_none() {
    for (shape, n_pixels) in
        [(&[4, 2, 2][..], 16), (&[1, 2, 2], 5), (&[1, 0, 2], 0), (&[7], 7), (&[1, usize::MAX, 2], 2)]
    {
        assert_eq!(Picture::new(shape, vec![0.0; n_pixels]), None, "{shape:?}");
    }
    let strange = Example {
        clean: picture(&[1, 1, 3], |place| [f32::NAN, f32::INFINITY, -1.0][place]),
        classes: None,
        label: None,
        ..example(&[1, 1, 3], 0.0)
    };
    let report = ExamplesReport { examples: vec![strange], ..report() };
    let page = page(&report);
    assert_eq!(decoded(&page.figures()[0].1).len(), 3);
    assert!(!page.html().unwrap().contains("for something else"), "without classes nothing is told of them");
}
