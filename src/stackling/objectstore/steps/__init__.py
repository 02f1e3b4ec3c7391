"""The lives of accounts, and the jobs that look after objects."""

from stackling.objectstore.steps import account, expiry

MACHINES = (account.machine, expiry.expirer, expiry.sweep)
