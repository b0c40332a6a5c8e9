//! Looking at dead letters leaves their queues alone.

use fanfare_testkit::receiver::{Receiver, Reply};
use fanfare_testkit::wait::eventually;
use serde_json::Value;

use super::Console;
use crate::world::{SOON, World, event};

/// A quorum queue counts in the header `x-delivery-count` how often a message was taken and given back.
#[tokio::test]
async fn no_look_takes_a_letter_from_its_queue() {
    let world = World::new().await.with("FANFARE_RETRY_ATTEMPTS", "1");
    let console = Console::on(world).await;
    let world = &console.world;
    let _processes = [world.start("router").await, world.start("worker").await];
    let receiver = Receiver::start().await;
    receiver.answer_with(|_, _| Reply::status(500));
    let webhook = world.webhook(&receiver.url("/hook")).await;
    let amqp = world.amqp().await;
    for number in 1..=3 {
        world.publish(&event()).await;
        let json = "application/json";
        amqp.publish("reportserver.events", "tasks.execute", json, &[], b"{").await.unwrap();
        for queue in ["fanfare.deliveries.dead", "fanfare.events.dead"] {
            eventually(&format!("{number} letters in {queue}"), SOON, async || {
                let count = amqp.queue_len(queue).await.unwrap();
                if count == number { Ok(()) } else { Err(count) }
            })
            .await;
        }
    }
    let letters = world.json(&["dead-letters", "list"]).await;
    let letters: Vec<&str> =
        letters.as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(letters.len(), 6);

    console.add(&["root"], &["--admin"]).await;
    let mut root = console.signed_in("root").await;
    let pages = [
        "/dead-letters",
        "/dead-letters?by=host",
        "/dead-letters?by=cause&reason=not-json",
        "/dead-letters?text=execute",
        &format!("/operations/new?kind=replay&webhook={webhook}"),
        "/operations/new?kind=discard",
    ];
    for page in pages {
        root.page(page).await;
    }
    for letter in &letters {
        root.page(&format!("/dead-letters/letter?id={letter}")).await;
        world.fanfare(&["dead-letters", "show", letter]).await;
    }
    for command in ["replay", "discard"] {
        world.fanfare(&["dead-letters", command, "--all", "--dry-run"]).await;
    }
    world.fanfare(&["dead-letters", "groups", "--by", "reason"]).await;
    assert_eq!(ids(&world.json(&["dead-letters", "list"]).await), letters);

    let inside = amqp.drain("fanfare.deliveries.dead").await.unwrap();
    assert_eq!(inside.len(), 3);
    let events = amqp.drain("fanfare.events.dead").await.unwrap();
    let ids_inside: Vec<_> =
        events.iter().map(|it| it.header("x-fanfare-dead-letter-id").unwrap()).collect();
    let listed = ids(&world.json(&["dead-letters", "list", "--queue", "events"]).await);
    assert_eq!(ids_inside, listed);
    for message in inside.iter().chain(&events) {
        let taken = message.header("x-delivery-count");
        assert!(taken.is_none_or(|times| times == "0"), "{message:?}");
    }
}

fn ids(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
}
