//! What the properties are about: cases that are made up, the world that they are played in, what is wanted of it.

pub(crate) mod acl;
pub(crate) mod case;
pub(crate) mod check;
pub(crate) mod machine;
pub(crate) mod model;
pub(crate) mod refused;
pub(crate) mod strategy;
pub(crate) mod tree;
pub(crate) mod wanted;
pub(crate) mod world;
