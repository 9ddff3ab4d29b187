"""What can be computed: values, operators, pipelines. Knows no server and no store."""
