mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { name = "eu-west-3" }
  }
}

variables {
  name               = "test"
  availability_zones = ["eu-west-3a", "eu-west-3b"]
}

run "by_default_there_is_no_way_out" {
  command = plan

  assert {
    condition     = length(aws_internet_gateway.this) + length(aws_nat_gateway.this) + length(aws_subnet.public) + length(aws_route.outbound) == 0
    error_message = "A network without outbound_internet has no gateway to the Internet."
  }
  assert {
    condition     = [for zone in ["eu-west-3a", "eu-west-3b"] : aws_subnet.private[zone].cidr_block] == ["10.40.0.0/20", "10.40.16.0/20"]
    error_message = "Each zone takes a sixteenth of the range, in order."
  }
  assert {
    condition     = alltrue([for subnet in aws_subnet.private : subnet.map_public_ip_on_launch == false])
    error_message = "Private subnets give no public address."
  }
  assert {
    condition     = aws_vpc_endpoint.s3.service_name == "com.amazonaws.eu-west-3.s3" && alltrue([for e in aws_vpc_endpoint.interface : e.private_dns_enabled])
    error_message = "AWS services answer inside the network, under their usual names."
  }
  assert {
    condition     = aws_vpc_security_group_ingress_rule.endpoints_https.cidr_ipv4 == "10.40.0.0/16" && aws_vpc_security_group_ingress_rule.endpoints_https.from_port == 443
    error_message = "Only this network reaches the endpoints, by HTTPS."
  }
}

run "outbound_internet_is_one_nat_gateway_a_zone" {
  command = plan

  variables {
    outbound_internet = true
  }

  assert {
    condition     = keys(aws_nat_gateway.this) == ["eu-west-3a", "eu-west-3b"] && keys(aws_route.outbound) == ["eu-west-3a", "eu-west-3b"]
    error_message = "A zone that fails takes its own way out with it, not the others'."
  }
  # 10.40.0.0/16: the last sixteenth is 10.40.240.0/20; cut by 4 more bits it gives /24s.
  assert {
    condition     = [for zone in ["eu-west-3a", "eu-west-3b"] : aws_subnet.public[zone].cidr_block] == ["10.40.240.0/24", "10.40.241.0/24"]
    error_message = "Public subnets do not overlap private ones."
  }
}

run "one_zone_is_refused" {
  command = plan

  variables {
    availability_zones = ["eu-west-3a"]
  }

  expect_failures = [var.availability_zones]
}

run "a_range_too_small_for_pods_is_refused" {
  command = plan

  variables {
    cidr = "10.40.0.0/24"
  }

  expect_failures = [var.cidr]
}
