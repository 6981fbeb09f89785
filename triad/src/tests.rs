//! Whole hubs of one to three servers in one process, on real cluster ports and disks.

mod audit;
mod clocks;
mod deaths;
mod deposed;
mod faults;
mod founding;
mod hand_over;
mod harness;
mod histories;
mod linearizable;
mod members;
mod memory;
mod network;
mod queue_histories;
mod secrets;
mod service_histories;
mod tokens;
mod upgrade;
mod wiped;
mod writes;
