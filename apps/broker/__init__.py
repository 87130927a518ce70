"""Message brokers: RabbitMQ with a delay ladder, or memory."""
