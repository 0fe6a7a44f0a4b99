//! What is shipped: the chart, the image, and the scripts that build them.

mod chart;
mod image;
mod scripts;
