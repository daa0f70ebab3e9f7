// SPDX-License-Identifier: GPL-2.0

//! The operations, a file per family.

pub(crate) mod rw;
