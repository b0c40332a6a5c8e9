//! What an operator or a machine does to a broker that runs: alarms, and queues that are emptied,
//! deleted, or silent for a while.

use anyhow::{Context, Result};

use crate::endpoints::{Endpoints, check_name};

/// A resource whose shortage makes the broker stop its publishers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    Memory,
    Disk,
}

impl Endpoints {
    /// Raises the alarm for a resource: the broker takes nothing from publishers until it is cleared.
    /// A broker that starts again has no alarm.
    ///
    /// # Errors
    ///
    /// If the broker does not answer.
    pub fn raise_alarm(&self, shortage: Shortage) -> Result<()> {
        self.evaluate(match shortage {
            Shortage::Memory => "vm_memory_monitor:set_vm_memory_high_watermark(0.00001).",
            Shortage::Disk => "rabbit_disk_monitor:set_disk_free_limit(\"1000000GB\").",
        })
        .map(drop)
        .with_context(|| format!("raising the alarm for {shortage:?}"))
    }

    /// Ends the alarm for a resource.
    ///
    /// # Errors
    ///
    /// If the broker does not answer.
    pub fn clear_alarm(&self, shortage: Shortage) -> Result<()> {
        self.evaluate(match shortage {
            Shortage::Memory => "vm_memory_monitor:set_vm_memory_high_watermark(0.6).",
            Shortage::Disk => "rabbit_disk_monitor:set_disk_free_limit(\"50MB\").",
        })
        .map(drop)
        .with_context(|| format!("clearing the alarm for {shortage:?}"))
    }

    /// Removes the messages that are ready in a queue.
    ///
    /// # Errors
    ///
    /// If there is no such queue, or the broker does not answer.
    pub fn purge_queue(&self, vhost: &str, queue: &str) -> Result<()> {
        self.on_queue(vhost, queue, "{ok, _} = rabbit_amqqueue:purge(Q)")
            .with_context(|| format!("purging the queue {queue}"))
    }

    /// Deletes a queue with its messages.
    ///
    /// # Errors
    ///
    /// If there is no such queue, or the broker does not answer.
    pub fn delete_queue(&self, vhost: &str, queue: &str) -> Result<()> {
        self.on_queue(
            vhost,
            queue,
            "{ok, _} = rabbit_amqqueue:delete(Q, false, false, <<\"testkit\">>)",
        )
        .with_context(|| format!("deleting the queue {queue}"))
    }

    /// Lets the leader of a queue answer again that was made
    /// [silent](crate::endpoints::Break::Silent).
    ///
    /// # Errors
    ///
    /// If there is no such queue, or the broker does not answer.
    pub fn resume_queue(&self, vhost: &str, queue: &str) -> Result<()> {
        self.on_queue(vhost, queue, "sys:resume(element(1, amqqueue:get_pid(Q)))")
            .with_context(|| format!("resuming the queue {queue}"))
    }

    /// Evaluates an Erlang expression of the queue `Q`.
    fn on_queue(&self, vhost: &str, queue: &str, expression: &str) -> Result<()> {
        check_name(vhost)?;
        self.evaluate(&format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{vhost}\">>, queue, \
             <<\"{queue}\">>)), {expression}."
        ))
        .map(drop)
    }
}
