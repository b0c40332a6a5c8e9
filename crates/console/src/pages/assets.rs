//! Static files. They are part of the binary, and their names have a digest of their content, so
//! that browsers may cache them without a limit.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

struct Asset {
    name: &'static str,
    end: &'static str,
    kind: &'static str,
    content: &'static [u8],
}

const FILES: [Asset; 4] = [
    Asset {
        name: "style",
        end: "css",
        kind: "text/css; charset=utf-8",
        content: include_bytes!("../../static/style.css"),
    },
    Asset {
        name: "page",
        end: "js",
        kind: "text/javascript; charset=utf-8",
        content: include_bytes!("../../static/page.js"),
    },
    Asset {
        name: "htmx",
        end: "js",
        kind: "text/javascript; charset=utf-8",
        content: include_bytes!("../../static/htmx.min.js"),
    },
    Asset {
        name: "mark",
        end: "svg",
        kind: "image/svg+xml",
        content: include_bytes!("../../static/mark.svg"),
    },
];

/// The paths of the static files.
#[derive(Debug)]
pub(crate) struct Paths {
    pub(super) style: String,
    pub(super) page: String,
    pub(super) htmx: String,
    pub(super) mark: String,
}

/// The paths of the static files of this build.
pub(super) static PATHS: LazyLock<Paths> = LazyLock::new(|| {
    let [style, page, htmx, mark] = FILES.each_ref().map(|file| format!("/assets/{}", file.path()));
    Paths { style, page, htmx, mark }
});

impl Asset {
    fn path(&self) -> String {
        let digest = Sha256::digest(self.content);
        let mut digits = String::new();
        for byte in digest.iter().take(8) {
            let _ = write!(digits, "{byte:02x}");
        }
        format!("{}-{digits}.{}", self.name, self.end)
    }
}

/// `GET`: shows a static file.
pub(crate) async fn show(Path(path): Path<String>) -> Response {
    match FILES.iter().find(|file| file.path() == path) {
        Some(file) => {
            let headers = [
                (header::CONTENT_TYPE, file.kind),
                (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
            ];
            (headers, file.content).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
