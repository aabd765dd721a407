//! Power cuts, simulated: the shipped engine on a machine in memory, crashed everywhere.
//!
//! [`Machine`] is a [`Host`](deploy_core::host::Host) that writes down all that happens on it. Since the engine always does
//! the same on it, one run is enough: each prefix of its [log](Event) is a crash point, and a [`Crash`] gives every disk
//! that can be found after it under one of four [models](Model). [`explore`] has the engine recover each, and lets the
//! observer of a [`Setup`] look at what is on the disk then, without the engine. A [`Fault`] makes machines leave out
//! something that the engine rests on, to see that this is noticed.

mod crash;
mod disk;
mod explore;
mod fault;
mod generations;
mod host;
mod log;
mod machine;
mod scenario;
mod setup;

pub use crash::{Caps, Crash, Model};
pub use disk::{Content, Disk, Facts, Inode, Kind, Node, ROOT};
pub use explore::{Effort, Found, explore};
pub use fault::Fault;
pub use log::{Change, Event};
pub use machine::{Commands, Machine, STATE};
pub use scenario::{Engine, Run, Scenario, Work};
pub use setup::{Refusal, Setup, TARGET};
