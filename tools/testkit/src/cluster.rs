//! A cluster of three RabbitMQ nodes on this machine, whose nodes can be killed, stopped and cut off.

use std::sync::Mutex;
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use rustix::process::Signal;

use crate::endpoints::{Control, Endpoints};
use crate::mutex::hold;
use crate::ports::free_ports;
use crate::rabbitmq::{Ports, RabbitMq};

/// How many nodes there are: the least of which one may be missing.
pub const NODES: usize = 3;

/// Three nodes. The first one is the broker of the servers, and the others joined it. All methods
/// block. A node that is alone stops by itself until it sees another one (`pause_minority`).
pub struct Cluster<'a> {
    first: &'a Mutex<RabbitMq>,
    peers: [Mutex<RabbitMq>; NODES - 1],
    endpoints: [Endpoints; NODES],
    names: [String; NODES],
}

impl<'a> Cluster<'a> {
    /// Starts two nodes that join the first one, which runs.
    pub(crate) fn start(
        first: &'a Mutex<RabbitMq>,
        endpoints: &Endpoints,
        password: &str,
    ) -> Result<Self> {
        let (second, second_at) = peer(first, endpoints, password, "2")?;
        let (third, third_at) = peer(first, endpoints, password, "3")?;
        let names = [hold(first).node_name(), second.node_name(), third.node_name()];
        let cluster = Self {
            first,
            peers: [Mutex::new(second), Mutex::new(third)],
            endpoints: [endpoints.clone(), second_at, third_at],
            names,
        };
        thread::scope(|scope| {
            let third = scope.spawn(|| cluster.start_node(2));
            let second = cluster.start_node(1);
            let third = third.join().unwrap_or_else(|_| Err(anyhow!("starting a node panicked")));
            second.and(third)
        })?;
        Ok(cluster)
    }

    /// The URL of a virtual host with all nodes.
    #[must_use]
    pub fn amqp_url(&self, vhost: &str) -> String {
        let hosts: Vec<String> = self
            .endpoints
            .iter()
            .filter_map(Endpoints::broker_addr)
            .map(|it| it.to_string())
            .collect();
        let first = hosts.first().cloned().unwrap_or_default();
        self.endpoints[0].amqp_url(vhost).replace(&first, &hosts.join(","))
    }

    /// The URL of a virtual host at one node.
    #[must_use]
    pub fn node_url(&self, node: usize, vhost: &str) -> String {
        self.endpoints[node].amqp_url(vhost)
    }

    /// The node, by its number from 0, that has the leader of a queue, as `by` knows it.
    pub fn leader_of(&self, vhost: &str, queue: &str, by: usize) -> Result<usize> {
        let value = self.endpoints[by].evaluate(&format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{vhost}\">>, queue, \
             <<\"{queue}\">>)), element(2, amqqueue:get_pid(Q))."
        ))?;
        let name = value.trim_matches('\'');
        let found = self.names.iter().position(|it| it == name);
        found.with_context(|| format!("{queue} has its leader on {value}"))
    }

    /// Ends a node as a crash would.
    pub fn kill(&self, node: usize) -> Result<()> {
        hold(self.node(node)).kill()
    }

    /// Stops a node in order.
    pub fn stop(&self, node: usize) -> Result<()> {
        hold(self.node(node)).stop()
    }

    /// Starts a node again with the data it had, and waits until it is a member again.
    pub fn start_node(&self, node: usize) -> Result<()> {
        hold(self.node(node)).start(&self.endpoints[node])
    }

    /// Lets a node do nothing, without closing its connections.
    pub fn suspend(&self, node: usize) -> Result<()> {
        hold(self.node(node)).signal(Signal::STOP)
    }

    /// Lets a suspended node continue.
    pub fn resume(&self, node: usize) -> Result<()> {
        hold(self.node(node)).signal(Signal::CONT)
    }

    /// Cuts a node off from the others. Clients still reach it.
    pub fn cut_off(&self, node: usize) -> Result<()> {
        // Nodes connect only if both have the same cookie for each other.
        let cut = |name: &str| format!("erlang:set_cookie('{name}', cut)");
        self.tell(node, &cut)?;
        let leave = |name: &str| format!("erlang:disconnect_node('{name}')");
        self.tell(node, &leave)
    }

    /// Lets a node that was cut off see the others again.
    pub fn join_again(&self, node: usize) -> Result<()> {
        self.tell(node, &|name| format!("erlang:set_cookie('{name}', erlang:get_cookie())"))
    }

    /// Whether a node works, is connected to all others, and no queue needs it for its majority: the
    /// condition under which an operator may stop it.
    #[must_use]
    pub fn is_up(&self, node: usize) -> bool {
        let works = format!(
            "{} = length(nodes()), true = rabbit:is_running(), \
             [] = rabbit_quorum_queue:list_with_minimum_quorum().",
            NODES - 1
        );
        self.endpoints[node].evaluate(&works).is_ok()
    }

    /// Evaluates an expression in a node for each of the others.
    fn tell(&self, node: usize, expression: &dyn Fn(&str) -> String) -> Result<()> {
        let others = self.names.iter().enumerate().filter(|(number, _)| *number != node);
        let all: Vec<String> = others.map(|(_, name)| expression(name)).collect();
        self.endpoints[node].evaluate(&format!("{}.", all.join(", "))).map(drop)
    }

    fn node(&self, node: usize) -> &Mutex<RabbitMq> {
        match node.checked_sub(1) {
            None => self.first,
            Some(peer) => &self.peers[peer],
        }
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        for peer in &self.peers {
            // Should this fail, the keeper ends it.
            let _ = hold(peer).kill();
        }
    }
}

/// A node that will join the first one, and its addresses.
fn peer(
    first: &Mutex<RabbitMq>,
    endpoints: &Endpoints,
    password: &str,
    name: &str,
) -> Result<(RabbitMq, Endpoints)> {
    let [amqp, control, distribution] = free_ports()?;
    let first = hold(first);
    let ports = Ports { amqp, control, distribution, epmd: first.epmd_port() };
    let node = first.create_peer(name, ports, password)?;
    let at = endpoints.broker_addr().context("the broker's URL has no address")?;
    let mut endpoints = endpoints.clone();
    endpoints.amqp = endpoints.amqp.replace(&at.to_string(), &format!("127.0.0.1:{amqp}"));
    endpoints.control = Control::Port { port: control, password: password.to_owned() };
    Ok((node, endpoints))
}
