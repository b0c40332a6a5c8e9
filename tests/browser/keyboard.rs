//! The grid and the form, used with the keyboard only.

use serde_json::{Value, json};

use super::Desk;
use super::window::{ENTER, SPACE, TAB, Window};
use crate::console::PASSWORD;

/// The focused element: its name, its id and its text.
async fn focus(window: &Window) -> [String; 3] {
    let script = "const it = document.activeElement; \
                  return [it.name ?? '', it.id, it.textContent.trim()]";
    let seen = window.run(script).await.unwrap();
    [0, 1, 2].map(|index| seen[index].as_str().unwrap().to_owned())
}

/// Presses Tab until an element of this name has the focus; its focus must be visible.
async fn tab_to(window: &Window, name: &str) {
    let mut passed = Vec::new();
    for _ in 0..60 {
        window.press(TAB).await;
        let here = focus(window).await;
        if here.iter().any(|it| it == name) {
            let style = "getComputedStyle(document.activeElement)";
            window.until(&format!("{style}.outlineStyle !== 'none'")).await;
            return;
        }
        passed.push(here);
    }
    panic!("Tab does not reach {name:?}; it passes {passed:?}");
}

#[tokio::test]
async fn every_control_can_be_used_with_the_keyboard() {
    let desk = Desk::new().await;
    desk.console.add(&["anna"], &[]).await;
    desk.console.directory(&["anna"]).await;
    let window = desk.window().await;
    window.go("/sign-in").await;
    // The first field has the focus when the page opens.
    window.press("anna").await;
    tab_to(&window, "password").await;
    window.press(PASSWORD).await;
    window.press(ENTER).await;
    window.arrives("/webhooks").await;

    window.press(TAB).await;
    assert_eq!(focus(&window).await[2], "Skip to content");
    window.press(ENTER).await;
    window.until("document.activeElement.id === 'main'").await;
    tab_to(&window, "Create the first webhook").await;
    window.press(ENTER).await;
    window.arrives("/webhooks/new").await;
    tab_to(&window, "url").await;
    window.press("http://192.0.2.1/hook?noecho").await;
    tab_to(&window, "everything").await;
    window.press(SPACE).await;
    tab_to(&window, "filter").await;
    window.press(SPACE).await;
    tab_to(&window, "description").await;
    window.press("By keys").await;
    tab_to(&window, "Add a header").await;
    window.press(SPACE).await;
    window.until("document.activeElement.name === 'header-name'").await;
    window.press("X-Key").await;
    tab_to(&window, "header-value").await;
    window.press("5").await;
    window.press(ENTER).await;
    window.sees("[role=status]", "The webhook was created").await;
    let made = &desk.console.world.json(&["webhooks", "list"]).await[0];
    assert_eq!(made["Description"], "By keys");
    assert_eq!(made["Headers"], json!({ "X-Key": "5" }));
    assert_ne!(made["Filters"], json!(["*"]));

    window.go("/webhooks").await;
    tab_to(&window, "q").await;
    window.press("keys").await;
    window.sees("#grid", "1 of 1 found").await;
    window.until("document.activeElement.id === 'q'").await;
    tab_to(&window, "Pause").await;
    window.press(ENTER).await;
    window.sees("tbody .badge", "Paused").await;
    // The button was replaced, and the new one has the focus.
    window.until("document.activeElement.textContent.trim() === 'Resume'").await;
    tab_to(&window, "Delete").await;
    window.press(ENTER).await;
    window.sees("h1", "Delete this webhook?").await;
    tab_to(&window, "Delete webhook").await;
    window.press(ENTER).await;
    window.sees("[role=status]", "The webhook was deleted").await;
    let left = desk.console.world.json(&["webhooks", "list"]).await;
    assert_eq!(left, Value::Array(Vec::new()));
    window.close().await;
}
