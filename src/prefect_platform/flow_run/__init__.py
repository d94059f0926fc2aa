"""The command of job pods: a flow run in processes that share one import of Prefect."""
