output "cidr" {
  description = "Addresses of the network: what the chart's network policies let in and out."
  value       = aws_vpc.this.cidr_block
}

output "private_subnet_ids" {
  description = "One private subnet in each zone, in the order of the zones' names."
  value       = [for zone in sort(keys(aws_subnet.private)) : aws_subnet.private[zone].id]
}

output "s3_endpoint_id" {
  description = "The gateway through which S3 is reached from inside."
  value       = aws_vpc_endpoint.s3.id
}

output "vpc_id" {
  description = "The network."
  value       = aws_vpc.this.id
}
