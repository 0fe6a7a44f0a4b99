//! The topology without a client: real records, records with fields of the future, and every decision about them.

mod edits;
mod fuzz;
mod lessons;
mod members;
mod samples;
