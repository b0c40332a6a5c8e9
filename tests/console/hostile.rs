//! Text that users or receivers wrote is shown as text, and never as markup or a header.

use super::{Console, PASSWORD, QUIET};

const SCRIPT: &str = "<script>alert(1)</script>";
const IMAGE: &str = "\"><img src=x onerror=alert(1)>'";

#[track_caller]
fn is_text(what: &str, html: &str) {
    // The page's own images are in its head.
    for markup in ["<script>alert", "<img src=x"] {
        assert!(!html.contains(markup), "{what}: {markup}\n{html}");
    }
}

#[tokio::test]
async fn user_input_is_shown_as_text() {
    let console = Console::start().await;
    console.add(&["root"], &["--admin"]).await;
    let name = "<script>alert(1)</script>";
    console.add(&[name], &[]).await;
    let mut user = console.signed_in(name).await;
    let url = format!("{QUIET}&x={SCRIPT}{IMAGE}");
    let fields = [
        ("url", url.as_str()),
        ("filter", "*"),
        ("description", &format!("{SCRIPT}{IMAGE}")),
        ("header-name", "X-A"),
        ("header-value", &format!("{SCRIPT}{IMAGE}")),
        ("property-name", &format!("a{SCRIPT}{IMAGE}")),
        ("property-kind", "text"),
        ("property-value", &format!("b{SCRIPT}{IMAGE}")),
        ("secret", &format!("{SCRIPT}{IMAGE}{SCRIPT}")),
    ];
    let path = user.create(&fields).await;
    let mut root = console.signed_in("root").await;
    for page in [
        "/webhooks".to_owned(),
        format!("/webhooks?q={}", urlencoded(SCRIPT)),
        format!("/webhooks?q={}&sort={}", urlencoded(IMAGE), urlencoded(IMAGE)),
        format!("/sign-in?next={}", urlencoded(IMAGE)),
        path.clone(),
        format!("{path}?done={}&state={}", urlencoded(SCRIPT), urlencoded(SCRIPT)),
        format!("{path}/edit"),
        format!("{path}/delete"),
        format!("{path}/signature"),
    ] {
        is_text(&page, &user.page(&page).await);
        is_text(&page, &root.page(&page).await);
    }
    assert!(user.page(&path).await.contains("&#60;script&#62;alert(1)&#60;/script&#62;"));
    let secret = user.submit_part(&path, &format!("{path}/secret")).await.body;
    is_text("the secret", &secret);
    assert!(secret.contains("&#60;script&#62;"));

    // The form shows an error for each refused value, and keeps the values.
    let wrong = [
        ("url", "<img src=x onerror=alert(1)>"),
        ("actions", SCRIPT),
        ("description", IMAGE),
        ("header-name", IMAGE),
        ("header-value", SCRIPT),
        ("property-name", IMAGE),
        ("property-kind", "json"),
        ("property-value", SCRIPT),
    ];
    let answer = user.submit("/webhooks/new", "/webhooks", &wrong).await;
    assert_eq!(answer.status, 400);
    is_text("a refused form", &answer.body);
    let pasted = [("headers", "ms-signature: <img src=x>"), ("body", SCRIPT), ("secret", "")];
    let page = format!("{path}/signature");
    let answer = user.submit(&page, &page, &pasted).await;
    is_text("a signature", &answer.body);
    assert!(answer.body.contains("&#60;img src=x&#62;"));
}

#[tokio::test]
async fn user_input_never_becomes_a_header() {
    const LINE: &str = "\r\nX-Injected: 1\r\nSet-Cookie: a=b";
    let console = Console::start().await;
    console.add(&["anna"], &[]).await;
    let mut anna = console.browser();
    let next = format!("/webhooks{LINE}");
    let fields = [("name", "anna"), ("password", PASSWORD), ("next", next.as_str())];
    let answer = anna.post("/sign-in", &fields).await;
    assert_eq!((answer.status, answer.header("x-injected")), (303, None));
    assert!(answer.header("set-cookie").unwrap().contains("fanfare_session="));
    for path in ["/webhooks?q=", "/webhooks?sort=", "/nowhere", "/sign-in?next="] {
        let answer =
            anna.get(&format!("{path}{}", LINE.replace("\r\n", "%0D%0A").replace(' ', "+"))).await;
        assert_eq!(answer.header("x-injected"), None, "{path}");
    }
    let value = format!("1{LINE}");
    for (name, value) in [("X-A", value.as_str()), (&format!("X-A: 1{LINE}"), "1")] {
        let fields =
            [("url", QUIET), ("filter", "*"), ("header-name", name), ("header-value", value)];
        let answer = anna.submit("/webhooks/new", "/webhooks", &fields).await;
        assert_eq!((answer.status, answer.header("x-injected")), (400, None));
        assert!(answer.body.contains(r#"id="headers-error""#), "{}", answer.body);
    }
    let url = format!("http://192.0.2.1/a{LINE}?noecho");
    let fields = [("url", url.as_str()), ("filter", "*")];
    let answer = anna.submit("/webhooks/new", "/webhooks", &fields).await;
    assert_eq!((answer.status, answer.header("x-injected")), (400, None));
    assert!(answer.body.contains(r#"id="url-error""#), "{}", answer.body);
}

fn urlencoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
