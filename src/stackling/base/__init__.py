"""What every service stands on: config, context, database, errors, jobs, log, policy, REST."""
