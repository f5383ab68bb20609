"""What the API takes and gives, as an OpenAPI document that is made from the routes, records and tables themselves."""
