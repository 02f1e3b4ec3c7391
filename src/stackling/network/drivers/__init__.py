"""Engines behind `network.driver.Fabric`: `ovn`, the real one, and `fake`, in memory."""
